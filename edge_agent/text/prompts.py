"""Turns the caller's prompt into the tokens that a generation begins with.

Law: a prompt that the model cannot take (not text, empty, too long) is refused here, before any work.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import TypeAlias, cast

from edge_agent.errors import PromptError, PromptTooLongError
from edge_agent.text.instructions import Instructions
from edge_agent.text.tokenizer import Text

Message: TypeAlias = Mapping[str, object]

_HALF_CHARACTER = re.compile("[\ud800-\udfff]")  # Python's surrogates for bytes that are not text


_NO_INSTRUCTIONS = Instructions()
_SYSTEM_ROLES = ("system", "developer")


def encode_prompt(
    text: Text,
    prompt: str | Sequence[Message],
    *,
    raw: bool,
    max_positions: int,
    instructions: Instructions = _NO_INSTRUCTIONS,
    tools: Sequence[Message] | None = None,
    beginning: str = "",
) -> list[int]:
    """The tokens of a text or of chat messages; `raw` bypasses the chat template for a text.

    `tools` and `beginning`, which the answer goes on from, are for chat messages only.

    The texts of special tokens are control ids only in a raw prompt.

    Raises PromptError if a prompt is empty, not valid Unicode, or leaves no room within `max_positions`, or
    if the `instructions` would have no effect.
    """
    _check_unicode(prompt, tools)
    if not isinstance(prompt, str):
        tokens = _chat_tokens(text, prompt, instructions, tools, beginning)
    elif text.has_chat_template and not raw:
        tokens = _chat_tokens(text, [{"role": "user", "content": prompt}], instructions, None, "")
    elif instructions:
        name = "template_vars" if instructions.system is None else "system"
        reason = "`raw` bypasses the chat template" if raw else "this model has no chat template"
        raise PromptError(f"`{name}` has no effect, since {reason}: leave it out")
    else:
        tokens = text.encode(prompt) if raw else text.encode_text(prompt)
    if not tokens:
        raise PromptError("the prompt is empty: give the model something to continue")
    if len(tokens) >= max_positions:
        raise PromptTooLongError(
            f"the prompt has {len(tokens)} tokens, but the draft model takes {max_positions} "
            "together with the answer: shorten it"
        )
    return tokens


def has_system(prompt: str | Sequence[Message]) -> bool:
    """Whether chat messages have a system message of their own."""
    return not isinstance(prompt, str) and any(one.get("role") in _SYSTEM_ROLES for one in prompt)


def _chat_tokens(
    text: Text,
    messages: Sequence[Message],
    instructions: Instructions,
    tools: Sequence[Message] | None,
    beginning: str,
) -> list[int]:
    prompt = partial(
        text.chat_prompt, tools=tools, template_vars=instructions.template_vars, beginning=beginning
    )
    if instructions.system is None or has_system(messages):
        return prompt(messages)
    system = {"role": "system", "content": instructions.system}
    _check_unicode([system], None)
    tokens = prompt([system, *messages])
    if instructions.system.strip() not in text.decode(tokens) and tokens == prompt(messages):
        raise PromptError("the model's chat template leaves `system` out: write it into the prompt")
    return tokens


def _check_unicode(prompt: str | Sequence[Message], tools: Sequence[Message] | None) -> None:
    if any(map(_HALF_CHARACTER.search, _texts([prompt, tools]))):
        raise PromptError("the prompt is not valid Unicode: it has bytes or surrogates that are not text")


def _texts(value: object) -> Iterator[str]:
    """All texts in plain data."""
    match value:
        case str():
            yield value
        case Mapping():
            for key, one in cast("Mapping[object, object]", value).items():
                yield from _texts(key)
                yield from _texts(one)
        case list() | tuple():
            for one in cast("Sequence[object]", value):
                yield from _texts(one)
        case _:
            pass
