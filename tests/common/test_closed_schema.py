"""Closing the objects of a schema only takes values away, and leaves what consists of parts as it is."""

import json
from typing import Any

import jsonschema
import pytest

from common.protocol.closed_schema import closed
from common.protocol.grammar import Grammar

NAMED = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
SHUT = {**NAMED, "additionalProperties": False}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (NAMED, SHUT),
        (SHUT, SHUT),
        ({"type": "array", "items": NAMED}, {"type": "array", "items": SHUT}),
        ({"anyOf": [NAMED, {"type": "null"}]}, {"anyOf": [SHUT, {"type": "null"}]}),
        ({"prefixItems": [NAMED]}, {"prefixItems": [SHUT]}),
        ({"$defs": {"n": NAMED}, "$ref": "#/$defs/n"}, {"$defs": {"n": SHUT}, "$ref": "#/$defs/n"}),
        ({"additionalProperties": NAMED}, {"additionalProperties": SHUT}),
        ({"allOf": [NAMED]}, {"allOf": [SHUT]}),
        (
            {"properties": {"properties": NAMED}},
            {"properties": {"properties": SHUT}, "additionalProperties": False},
        ),
    ],
)
def test_an_object_has_the_properties_that_are_named(given: dict[str, Any], expected: dict[str, Any]) -> None:
    assert closed(given) == expected
    assert closed(expected) == expected
    assert json.loads(Grammar.json_schema(given).source) == expected


@pytest.mark.parametrize(
    "given",
    [
        {"type": "object"},
        {},
        {**NAMED, "additionalProperties": {"type": "string"}},
        {**NAMED, "patternProperties": {"^x": {}}},
        {**NAMED, "required": ["a", "b"]},
        {"allOf": [NAMED, {"properties": {"b": {}}}]},
        {"properties": {"b": {}}, "anyOf": [NAMED, {"required": ["b"]}]},
        {"properties": {"b": {}}, "$ref": "#/$defs/n", "$defs": {"n": NAMED}},
        {"const": NAMED},
        {"enum": [NAMED]},
        {"properties": 3, "required": 4, "items": 5, "anyOf": 6, "allOf": {}},
    ],
)
def test_what_says_so_or_consists_of_parts_stays_open(given: dict[str, Any]) -> None:
    assert closed(given) == given


def test_what_a_closed_schema_takes_the_given_one_takes() -> None:
    for value, is_taken in (({"a": 1}, True), ({"a": 1, "b": 2}, False), ({}, False)):
        assert jsonschema.Draft202012Validator(closed(NAMED)).is_valid(value) == is_taken
        assert jsonschema.Draft202012Validator(NAMED).is_valid(value) or not is_taken
