"""Closes the objects of a JSON schema: what the schema does not name cannot be written. Pure.

Law: what the closed schema takes, the given one takes. A model that may add properties adds some, and may
never end; so an object with `properties` has no others unless the schema has `additionalProperties`, as in
llama.cpp. A schema that puts objects together from parts is taken as it is: closed parts exclude each other.
"""

from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias, cast

Schema: TypeAlias = Mapping[str, Any]

_MAPS = ("properties", "patternProperties", "$defs", "definitions")
_LISTS = ("anyOf", "oneOf", "allOf", "prefixItems")
_SINGLE = ("items", "additionalProperties", "additionalItems")
_COMBINING = {"anyOf", "oneOf", "allOf", "$ref"}
_OPENING = {"additionalProperties", "patternProperties", "unevaluatedProperties"}


def closed(schema: Schema) -> Schema:
    """The schema, with `additionalProperties: false` where an object names its `properties` alone."""
    return schema if any(map(_combines, _all(schema))) else _closed(schema)


def _combines(schema: Schema) -> bool:
    """Whether properties of one object come from several schemas."""
    is_object = bool(schema.keys() & {"properties", "required", *_OPENING})
    parts = schema.get("allOf")
    has_parts = isinstance(parts, list) and len(cast("list[Any]", parts)) > 1
    return has_parts or (is_object and bool(schema.keys() & _COMBINING))


def _closed(schema: Schema) -> Schema:
    found = {name: _value(name, value) for name, value in schema.items()}
    named, required = schema.get("properties"), schema.get("required", [])
    if not isinstance(named, dict) or not isinstance(required, list) or schema.keys() & _OPENING:
        return found
    has_others = not {str(one) for one in cast("list[Any]", required)} <= cast("Schema", named).keys()
    return found if has_others else {**found, "additionalProperties": False}


def _value(name: str, value: Any) -> Any:
    if name in _MAPS and isinstance(value, dict):
        return {key: _inner(one) for key, one in cast("Schema", value).items()}
    if name in (*_LISTS, *_SINGLE) and isinstance(value, list):
        return [_inner(one) for one in cast("list[Any]", value)]
    return _inner(value) if name in _SINGLE else value


def _inner(value: Any) -> Any:
    return _closed(cast("Schema", value)) if isinstance(value, dict) else value


def _all(schema: Schema) -> Iterator[Schema]:
    """The schema and those within it."""
    yield schema
    for name, value in schema.items():
        if name in _MAPS and isinstance(value, dict):
            inner = list(cast("Schema", value).values())
        elif name in (*_LISTS, *_SINGLE):
            inner = cast("list[Any]", value) if isinstance(value, list) else [value]
        else:
            continue
        for one in inner:
            if isinstance(one, dict):
                yield from _all(cast("Schema", one))
