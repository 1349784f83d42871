"""Pieces of grammars in llguidance's Lark syntax. Pure."""

import json
import re
from collections.abc import Mapping
from typing import Any, cast

from common.protocol.grammar import Grammar, GrammarKind
from edge_agent.errors import ConfigError

ANY_TEXT = r"/(.|\n)*/"


def token(id: int | None, text: str) -> str:
    """A special token by its id, which every tokenizer understands; without one, its text."""
    return json.dumps(text) if id is None else f"<[{id}]>"


def schema(found: Mapping[str, Any]) -> str:
    """JSON that fits a schema."""
    return f"%json {json.dumps(found, separators=(',', ':'), ensure_ascii=False)}"


def text_rules(text: Grammar | None, any_text: str = ANY_TEXT) -> str:
    """The rule `text`: an answer without calls. Raises ConfigError for one that cannot stand beside calls."""
    if text is None:
        return f"text: TEXT\nTEXT: {any_text}\n"
    match text.kind:
        case GrammarKind.JSON_SCHEMA:
            return f"text: {schema(_compact(text.source))}\n"
        case GrammarKind.REGEX:
            return f"text: TEXT\nTEXT: /{text.source.replace('/', chr(92) + '/')}/\n"
        case _:
            raise ConfigError("`grammar` in Lark cannot be used with `tools`: use a schema, or leave one out")


def _compact(source: str) -> dict[str, Any]:
    """Without white space, as a schema has it that stands alone."""
    found: object = json.loads(source)
    schema = {"anyOf": [found]} if isinstance(found, bool) else cast("dict[str, Any]", found)
    return {**schema, "x-guidance": {"whitespace_flexible": False}}


def text_without(mark: str) -> str:
    """Any text that does not have the mark of a call."""
    return f"{ANY_TEXT} & ~/(.|\\n)*{re.escape(mark)}(.|\\n)*/"


def lark(*lines: str) -> Grammar:
    """A grammar from its lines."""
    return Grammar.lark("\n".join(line.rstrip("\n") for line in lines) + "\n")
