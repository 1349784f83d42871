"""JSON schemas of calls, made from those of the tools. Pure.

Law: what fits the schema of a call fits the tool's own. It may be narrower: arguments that the tool does not
name are left out, because a tool can do nothing with them.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

from edge_agent.tools.tool import Json, Tool

# what llguidance can hold an answer to; any other `format` only describes
_FORMATS = frozenset(
    {"date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid", "uri"}
)
# beside these, other properties may be meant
_OPEN = frozenset(
    {"allOf", "anyOf", "oneOf", "not", "if", "$ref", "patternProperties", "additionalProperties"}
    | {"unevaluatedProperties", "dependentSchemas"}
)
_OF_ONE = ("items", "additionalProperties", "contains", "not", "if", "then", "else", "propertyNames")
_OF_MANY = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")
_OF_LISTS = ("allOf", "anyOf", "oneOf", "prefixItems")

SPACED: Json = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
COMPACT: Json = {"whitespace_flexible": False}


def call_schema(tools: Sequence[Tool], arguments: str, style: Json = SPACED) -> dict[str, Any]:
    """A schema for one call of any of `tools`: its name, then its arguments under the key `arguments`."""
    return {"x-guidance": style, **one_of(each_call(tools, arguments)), "$defs": definitions(tools)}


def calls_schema(tools: Sequence[Tool], arguments: str, *, most: int, style: Json = SPACED) -> dict[str, Any]:
    """A schema for a list of calls, one at least."""
    items = one_of(each_call(tools, arguments))
    listed = {"type": "array", "minItems": 1, "maxItems": most, "items": items}
    return {"x-guidance": style, **listed, "$defs": definitions(tools)}


def each_call(tools: Sequence[Tool], arguments: str) -> list[dict[str, Any]]:
    """The schema of a call of each tool; it refers to `definitions`."""
    return [
        {
            "type": "object",
            "properties": {"name": {"const": tool.name}, arguments: {"$ref": f"#/$defs/t{number}"}},
            "required": ["name", arguments],
            "additionalProperties": False,
        }
        for number, tool in enumerate(tools)
    ]


def definitions(tools: Iterable[Tool]) -> dict[str, Any]:
    """The schemas of the tools' arguments, under the names that `each_call` uses."""
    return {f"t{number}": arguments_schema(tool, f"#/$defs/t{number}") for number, tool in enumerate(tools)}


def arguments_schema(tool: Tool, at: str = "#") -> dict[str, Any]:
    """What a call's arguments must be; `at` is where the schema stands, for the references inside it."""
    return {"properties": {}, **_closed(_moved(tool.parameters, at)), "type": "object"} | (
        {} if _OPEN & tool.parameters.keys() else {"additionalProperties": False}
    )


def one_of(schemas: list[dict[str, Any]]) -> dict[str, Any]:
    """Any of the schemas."""
    return schemas[0] if len(schemas) == 1 else {"anyOf": schemas}


def _closed(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Without properties that are not named, wherever that cannot contradict another part of the schema."""
    closed = dict(schema)
    if isinstance(schema.get("properties"), Mapping) and not _OPEN & schema.keys():
        closed["additionalProperties"] = False
        closed["properties"] = {
            name: _closed(one) if isinstance(one, Mapping) else one
            for name, one in schema["properties"].items()
        }
    if isinstance(schema.get("items"), Mapping):
        closed["items"] = _closed(schema["items"])
    return closed


def _moved(schema: object, at: str) -> dict[str, Any]:
    """With references that hold where the schema stands now, and without formats that only describe."""
    if not isinstance(schema, Mapping):
        return cast("dict[str, Any]", schema)
    moved: dict[str, Any] = {}
    for key, value in cast("Mapping[str, Any]", schema).items():
        if key == "$ref" and isinstance(value, str) and value.startswith("#"):
            moved[key] = at + value[1:]
        elif key == "format" and value not in _FORMATS:
            continue
        elif key in _OF_ONE:
            moved[key] = _moved(value, at)
        elif key in _OF_MANY and isinstance(value, Mapping):
            moved[key] = {name: _moved(one, at) for name, one in cast("Mapping[str, Any]", value).items()}
        elif key in _OF_LISTS and isinstance(value, list):
            moved[key] = [_moved(one, at) for one in cast("list[object]", value)]
        elif key not in ("$schema", "$id", "x-guidance"):
            moved[key] = value
    return moved
