"""What an answer must match: `response_format` as OpenAI's API has it, or a grammar beside it."""

from common.protocol.grammar import Grammar
from edge_agent.formats import ANY_OBJECT, given_of, grammar_of, schema_of
from edge_agent.http.requests.fields import Fields

OWN = ("grammar", "regex", "json_schema")
MAX_NAME = 64

_TYPES = "text, json_object or json_schema"


def format_of(fields: Fields) -> tuple[str | None, Grammar | None]:
    """The field that has a grammar, and the grammar; None where any text will do."""
    given = given_of(fields, ("response_format", *OWN) if _constrains(fields) else OWN)
    if given == "response_format":
        return given, _response_format(fields.inner(given))
    return given, grammar_of(fields, OWN)


def _constrains(fields: Fields) -> bool:
    """Whether there is a `response_format` other than text."""
    form = fields.inner("response_format")
    return bool(form.found) and form.found.get("type") != "text"


def _response_format(form: Fields) -> Grammar:
    match form.found.get("type"):
        case "json_object":  # with a schema as in llama.cpp
            return ANY_OBJECT if form.found.get("schema") is None else schema_of(form, "schema")
        case "json_schema":
            described = form.inner("json_schema")
            described.text("name", most=MAX_NAME)
            described.flag("strict")  # true or false: the answer fits the schema
            return schema_of(described, "schema")
        case _:
            raise form.wrong("type", _TYPES)
