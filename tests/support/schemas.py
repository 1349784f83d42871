"""Five JSON schemas of different kinds, for answers of models that know nothing of them."""

from typing import Any

Schema = dict[str, Any]

ACTIONS: Schema = {
    "type": "array",
    "minItems": 1,
    "maxItems": 3,
    "items": {
        "type": "object",
        "properties": {
            "device": {"enum": ["light", "fan", "blinds", "tv"]},
            "room": {"enum": ["kitchen", "living_room", "bedroom"]},
            "action": {"enum": ["on", "off", "open", "close"]},
            "value": {"type": "integer", "minimum": -20, "maximum": 100},
        },
        "required": ["device", "room", "action"],
        "additionalProperties": False,
    },
}
TREE: Schema = {
    "$ref": "#/$defs/node",
    "$defs": {
        "node": {
            "type": "object",
            "properties": {
                "name": {"enum": ["a", "b"]},
                "children": {"type": "array", "maxItems": 2, "items": {"$ref": "#/$defs/node"}},
            },
            "required": ["name", "children"],
            "additionalProperties": False,
        }
    },
}
PERSON: Schema = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "minLength": 1, "maxLength": 12},
        "born": {"type": "string", "format": "date"},
        "emails": {
            "type": "array",
            "items": {"type": "string", "pattern": "^[a-z]{1,8}@[a-z]{1,8}\\.org$"},
            "maxItems": 2,
        },
        "active": {"type": "boolean"},
        "boss": {"anyOf": [{"type": "null"}, {"type": "string", "maxLength": 6}]},
    },
    "required": ["name", "born", "active", "boss"],
    "additionalProperties": False,
}
NUMBERS: Schema = {
    "type": "object",
    "properties": {
        "count": {"type": "integer", "minimum": 3, "maximum": 1200},
        "share": {"type": "number", "minimum": 0, "exclusiveMaximum": 1},
        "pair": {
            "type": "array",
            "prefixItems": [{"type": "integer"}, {"type": "boolean"}],
            "items": False,
            "minItems": 2,
        },
    },
    "required": ["count", "share", "pair"],
    "additionalProperties": False,
}
CALL: Schema = {
    "anyOf": [
        {
            "type": "object",
            "properties": {
                "name": {"const": name},
                "arguments": {
                    "type": "object",
                    "properties": {
                        "room": {"enum": ["hall", "attic"]},
                        "level": {"type": "integer", "minimum": 0, "maximum": 9},
                    },
                    "required": required,
                    "additionalProperties": False,
                },
            },
            "required": ["name", "arguments"],
            "additionalProperties": False,
        }
        for name, required in (("dim_light", ["room", "level"]), ("is_window_open", ["room"]))
    ]
}
SCHEMAS = {"actions": ACTIONS, "tree": TREE, "person": PERSON, "numbers": NUMBERS, "call": CALL}
