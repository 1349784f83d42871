"""Whether plain JSON fits a schema, as far as tools' arguments use schemas. Pure.

Law: what this takes to fit does, for the keywords below; one that it does not know is taken to hold.
"""

from collections.abc import Mapping
from typing import Any, cast

_KINDS: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
}
Schema = Mapping[str, Any]


def fits(value: object, schema: object) -> bool:
    """Whether `value` fits `schema`."""
    if not isinstance(schema, Mapping):
        return schema is not False
    found = cast("Schema", schema)
    return (
        _is_kind(value, found.get("type"))
        and ("const" not in found or value == found["const"])
        and (not isinstance(found.get("enum"), list) or value in found["enum"])
        and _is_within(value, found)
        and _has_parts(value, found)
        and all(fits(value, one) for one in found.get("allOf", ()))
        and ("anyOf" not in found or any(fits(value, one) for one in found["anyOf"]))
        and ("oneOf" not in found or sum(fits(value, one) for one in found["oneOf"]) == 1)
    )


def _is_kind(value: object, kind: object) -> bool:
    if isinstance(kind, list):
        return any(_is_kind(value, one) for one in cast("list[object]", kind))
    if not isinstance(kind, str) or kind not in _KINDS:
        return True
    return isinstance(value, _KINDS[kind]) and (kind == "boolean" or not isinstance(value, bool))


def _is_within(value: object, schema: Schema) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return True
    least, most = schema.get("minimum"), schema.get("maximum")
    return (least is None or value >= least) and (most is None or value <= most)


def _has_parts(value: object, schema: Schema) -> bool:
    if isinstance(value, list):
        return all(fits(one, schema.get("items")) for one in cast("list[object]", value))
    if not isinstance(value, dict):
        return True
    given = cast("dict[str, object]", value)
    properties: Schema = schema.get("properties") or {}
    others = schema.get("additionalProperties")
    return all(name in given for name in schema.get("required", ())) and all(
        fits(one, properties.get(name, others)) for name, one in given.items()
    )
