"""What an answer must match, as apps and people write it. Pure.

Law: what is given is honoured or refused, never ignored, and of the ways to give it only one may be used.
Whether a grammar compiles is known only when the answer is asked for.
"""

import json
from collections.abc import Callable, Sequence
from typing import TypeAlias, cast

from common.protocol.grammar import MAX_GRAMMAR_BYTES, Grammar, GrammarKind
from edge_agent.json_fields import Json, JsonFields

FORMATS = ("format", "grammar", "regex")  # the fields in asks of apps
LINE_FORMATS = ("json_schema", "regex", "lark")  # in the lines of `generate --jsonl`, named as its flags
ANY_OBJECT = Grammar.json_schema({"type": "object"})

Schema: TypeAlias = Json | bool

_KINDS = ", ".join(GrammarKind)


def grammar_of(fields: JsonFields, names: Sequence[str]) -> Grammar | None:
    """The grammar in one of the fields `names`; None if it is in none of them."""
    given = given_of(fields, names)
    return _READERS[given](fields, given) if given else None


def given_of(fields: JsonFields, names: Sequence[str]) -> str | None:
    """The one of the fields `names` that has a grammar: null and an empty text are none."""
    given = [name for name in names if fields.found.get(name) not in (None, "")]
    if len(given) > 1:
        raise fields.refusal(f"give only one of {' and '.join(map(fields.quoted, given))}", given[1])
    return given[0] if given else None


def schema_of(fields: JsonFields, name: str) -> Grammar:
    """The grammar of the JSON schema in a field."""
    found: object = fields.found.get(name)
    if not isinstance(found, dict | bool):
        raise fields.wrong(name, "a JSON schema")
    try:
        json.dumps(found, allow_nan=False)
        grammar = Grammar.json_schema(cast("Schema", found))
    except (ValueError, RecursionError) as error:
        raise fields.wrong(name, "a JSON schema without NaN, not nested too deeply") from error
    return _bounded(fields, name, grammar)


def _bounded(fields: JsonFields, name: str, grammar: Grammar) -> Grammar:
    try:
        length = len(grammar.source.encode())
    except UnicodeEncodeError as error:
        raise fields.wrong(name, "valid Unicode") from error
    if not 0 < length <= MAX_GRAMMAR_BYTES:
        raise fields.wrong(name, f"1 to {MAX_GRAMMAR_BYTES:,} bytes long")
    return grammar


def _format(fields: JsonFields, name: str) -> Grammar:
    """As Ollama has it."""
    found: object = fields.found[name]
    if found == "json":
        return ANY_OBJECT
    if not isinstance(found, dict):
        raise fields.wrong(name, '"json" or a JSON schema')
    return schema_of(fields, name)


def _grammar(fields: JsonFields, name: str) -> Grammar:
    """A Lark grammar, or a grammar of a kind that is named."""
    if isinstance(fields.found[name], str):
        return _lark(fields, name)
    if not isinstance(fields.found[name], dict):
        raise fields.wrong(name, 'a Lark grammar, or {"kind": ..., "source": ...}')
    inner = fields.inner(name)
    if (kind := inner.text("kind")) not in tuple(GrammarKind):
        raise inner.wrong("kind", f"one of {_KINDS}")
    if kind == GrammarKind.JSON_SCHEMA and isinstance(inner.found.get("source"), dict):
        return schema_of(inner, "source")
    return _text(inner, "source", GrammarKind(kind))


def _regex(fields: JsonFields, name: str) -> Grammar:
    return _text(fields, name, GrammarKind.REGEX)


def _lark(fields: JsonFields, name: str) -> Grammar:
    return _text(fields, name, GrammarKind.LARK)


def _text(fields: JsonFields, name: str, kind: GrammarKind) -> Grammar:
    return _bounded(fields, name, Grammar(kind, fields.text(name) or ""))


_READERS: dict[str, Callable[[JsonFields, str], Grammar]] = {
    "format": _format,
    "grammar": _grammar,
    "regex": _regex,
    "json_schema": schema_of,
    "lark": _lark,
}
