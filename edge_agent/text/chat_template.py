"""A model's chat template, rendered as transformers renders it, in jinja's sandbox.

Law: a template is untrusted. It gets plain data, pure functions and the date, and cannot leave the sandbox.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import cast

from jinja2 import TemplateError, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from edge_agent.errors import ModelError, PromptError


class ChatTemplate:
    """One compiled template."""

    def __init__(self, source: str, special_tokens: Mapping[str, str]) -> None:
        """Compile `source`; raises ModelError when it is not a valid template."""
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols]
        )
        environment.filters["tojson"] = _to_json
        self._special_tokens = dict(special_tokens)
        try:
            self._template = environment.from_string(
                source, globals={"raise_exception": _raise, "strftime_now": _now}
            )
        except TemplateError as error:
            raise ModelError(
                f"The model's chat template cannot be read ({error}): send plain prompts."
            ) from error

    def render(
        self, messages: Sequence[Mapping[str, object]], *, tools: Sequence[Mapping[str, object]] | None
    ) -> str:
        """Render the prompt up to the assistant's turn; raises PromptError when the template refuses it."""
        try:
            return self._template.render(
                **self._special_tokens,
                messages=_plain(messages),
                tools=_plain(tools),
                documents=None,
                add_generation_prompt=True,
            )
        except (TemplateError, TypeError, ValueError, KeyError, IndexError, AttributeError) as error:
            raise PromptError(f"The model's chat template refuses these messages ({error}).") from error


class _Generation(Extension):
    """{% generation %} ... {% endgeneration %} marks what a model is trained on; here it has no effect."""

    tags = {"generation"}  # noqa: RUF012 (as jinja declares it)

    def parse(self, parser: Parser) -> list[nodes.Node]:
        """The body, as if the tags were not there."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _plain(value: object) -> object:
    """Rebuild the value as plain JSON data, so that no object with methods reaches the template."""
    return cast("object", json.loads(json.dumps(value)))


def _to_json(
    value: object,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """JSON without the HTML escapes of jinja's own filter, and with keys in their order."""
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def _raise(message: str) -> None:
    raise TemplateError(message)


def _now(pattern: str) -> str:
    return datetime.now().strftime(pattern)
