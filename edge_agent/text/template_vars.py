"""The variables that a user gives to a chat template, such as `enable_thinking`. Pure.

Law: they never replace what the prompt itself consists of (the messages, the tools, the special tokens), and
one that the template does not use is an error, not ignored.
"""

import json
import re
from collections.abc import Collection, Mapping
from typing import NoReturn, cast

from edge_agent.errors import PromptError

MAX_CHARACTERS = 1 << 16  # of all variables in JSON
RESERVED = frozenset(
    {"messages", "tools", "documents", "add_generation_prompt", "raise_exception", "strftime_now"}
)


def parse_template_vars(text: str) -> dict[str, object]:
    """The variables in the JSON object `text`; raises PromptError."""
    if len(text) > MAX_CHARACTERS:
        raise PromptError(f"`template_vars` is longer than {MAX_CHARACTERS:,} characters: shorten it")
    try:
        found: object = json.loads(text, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise PromptError(f"`template_vars` is not valid JSON: {error}") from error
    return check_template_vars(found)


def check_template_vars(found: object) -> dict[str, object]:
    """`found` itself if it is a mapping from names to plain data that a template may get; PromptError."""
    if not isinstance(found, Mapping):
        raise PromptError('`template_vars` must be a JSON object, such as {"enable_thinking": false}')
    given = dict(cast("Mapping[object, object]", found))
    for name in given:
        if not (isinstance(name, str) and name.isidentifier()):
            raise PromptError(f"`template_vars` has the name {str(name)[:50]!r}, which no template can use")
        if name in RESERVED:
            raise PromptError(f"`template_vars` cannot set {name}: the prompt decides it")
    try:
        size = len(json.dumps(given, allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        raise PromptError(f"`template_vars` is not plain data: {error}") from error
    if size > MAX_CHARACTERS:
        raise PromptError(f"`template_vars` is longer than {MAX_CHARACTERS:,} characters: shorten it")
    return cast("dict[str, object]", given)


def refuse_unused(names: Collection[str], source: str, special_tokens: Collection[str]) -> None:
    """Raise PromptError for a variable that the template `source` does not use, or a special token."""
    for name in names:
        if name in special_tokens:
            raise PromptError(f"`template_vars` cannot set {name}: the model decides it")
        if re.search(rf"\b{re.escape(name)}\b", source) is None:
            raise PromptError(
                f"`template_vars` sets {name}, which the model's chat template does not use: leave it out"
            )


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number in JSON")
