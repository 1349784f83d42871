"""The tools of a request, and the schemas of their calls."""

from typing import Any

import jsonschema
import pytest

from edge_agent.errors import ConfigError
from edge_agent.tools.fitting import fits
from edge_agent.tools.schemas import call_schema, calls_schema
from edge_agent.tools.tool import tool_use
from edge_agent.tools.values import JsonObjects
from tests.support.intents import CLOCK, INTENTS, WEATHER, tool


def name_of(found: dict[str, Any]) -> str:
    return found["function"]["name"]


@pytest.mark.parametrize(
    ("choice", "callable", "must_call", "most"),
    [
        (None, ["get_weather", "get_time"], False, 32),
        ("auto", ["get_weather", "get_time"], False, 32),
        ("required", ["get_weather", "get_time"], True, 32),
        ({"type": "function", "function": {"name": "get_time"}}, ["get_time"], True, 1),
        (
            {
                "type": "allowed_tools",
                "allowed_tools": {
                    "mode": "auto",
                    "tools": [{"type": "function", "function": {"name": "get_time"}}],
                },
            },
            ["get_time"],
            False,
            32,
        ),
    ],
)
def test_a_choice_decides_what_may_be_called(
    choice: object, callable: list[str], must_call: bool, most: int
) -> None:
    use = tool_use([WEATHER, CLOCK], choice)
    assert use is not None
    assert [one.name for one in use.tools] == ["get_weather", "get_time"]
    assert [one.name for one in use.callable] == callable
    assert (use.must_call, use.most_calls) == (must_call, most)


def test_without_tools_or_with_the_choice_none_nothing_is_called() -> None:
    assert tool_use(None) is None
    assert tool_use([]) is None
    assert tool_use([WEATHER], "none") is None
    use = tool_use([WEATHER], "required", parallel=False)
    assert use is not None
    assert use.most_calls == 1


@pytest.mark.parametrize(
    ("tools", "choice", "field"),
    [
        ("x", None, "tools"),
        ([3], None, r"tools\[0\]"),
        ([{"type": "retrieval", "function": {}}], None, r"tools\[0\].type"),
        ([{"type": "function"}], None, r"tools\[0\].function"),
        ([{"function": {"name": ""}}], None, r"tools\[0\].function.name"),
        ([{"function": {"name": "a b"}}], None, r"tools\[0\].function.name"),
        ([{"function": {"name": "a", "parameters": []}}], None, r"tools\[0\].function.parameters"),
        ([{"function": {"name": "a", "parameters": {"type": "string"}}}], None, "parameters.type"),
        ([{"function": {"name": "a", "parameters": {"x": float("nan")}}}], None, "parameters"),
        ([{"function": {"name": "a", "parameters": {"x": "\ud800"}}}], None, "parameters"),
        ([{"function": {"name": "a", "description": 3}}], None, "description"),
        ([CLOCK, CLOCK], None, "tools"),
        ([tool(f"t{number}", {}) for number in range(300)], None, "tools"),
        ([CLOCK], "always", "tool_choice"),
        ([CLOCK], {"type": "function", "function": {"name": "other"}}, "tool_choice"),
        ([CLOCK], {"type": "function"}, "tool_choice.function"),
        ([CLOCK], {"type": "allowed_tools", "allowed_tools": {"mode": "x"}}, "tool_choice"),
        ([], "required", "tool_choice"),
    ],
)
def test_what_cannot_be_used_is_refused_by_its_name(tools: object, choice: object, field: str) -> None:
    with pytest.raises(ConfigError, match=f"`[^`]*{field}") as caught:
        tool_use(tools, choice)
    assert "\n" not in str(caught.value)


def test_the_schema_of_a_call_takes_calls_of_every_tool_and_nothing_else() -> None:
    use = tool_use([*INTENTS, WEATHER, CLOCK])
    assert use is not None
    schema = call_schema(use.callable, "arguments")
    right = jsonschema.Draft202012Validator(schema)
    assert right.is_valid({"name": "get_weather", "arguments": {"city": "Rome", "unit": "c"}})
    assert right.is_valid({"name": "get_time", "arguments": {}})
    for wrong in (
        {"name": "get_weather", "arguments": {"city": "Oslo", "unit": "c"}},
        {"name": "get_weather", "arguments": {"city": "Rome"}},
        {"name": "get_time", "arguments": {"zone": "UTC"}},
        {"name": "get_date", "arguments": {}},
        {"name": "get_time"},
    ):
        assert not right.is_valid(wrong)
    listed = jsonschema.Draft202012Validator(calls_schema(use.callable, "arguments", most=1))
    assert listed.is_valid([{"name": "get_time", "arguments": {}}])
    assert not listed.is_valid([])


def test_references_inside_a_tools_schema_hold_in_the_schema_of_its_call() -> None:
    tree = {
        "type": "object",
        "properties": {"root": {"$ref": "#/$defs/node"}, "$ref": {"type": "string", "format": "lower"}},
        "$defs": {"node": {"type": "object", "properties": {"next": {"$ref": "#/$defs/node"}}}},
        "required": ["root"],
    }
    found = [{"type": "function", "function": {"name": "walk", "parameters": tree}}, CLOCK]
    use = tool_use(found)
    assert use is not None
    right = jsonschema.Draft202012Validator(call_schema(use.callable, "arguments"))
    assert right.is_valid({"name": "walk", "arguments": {"root": {"next": {"next": {}}}, "$ref": "x"}})
    assert not right.is_valid({"name": "walk", "arguments": {"root": {"next": 3}}})


def test_properties_are_closed_only_where_that_contradicts_nothing() -> None:
    parts = [{"properties": {"a": {"type": "integer"}}}, {"properties": {"b": {"type": "integer"}}}]
    found = {"type": "function", "function": {"name": "both", "parameters": {"allOf": parts}}}
    use = tool_use([found])
    assert use is not None
    right = jsonschema.Draft202012Validator(call_schema(use.callable, "arguments"))
    assert right.is_valid({"name": "both", "arguments": {"a": 1, "b": 2}})


@pytest.mark.parametrize("value", [{"city": "Rome", "unit": "c"}, {"city": "Rome"}, {"city": 3}, [], 5, True])
def test_what_is_said_to_fit_does(value: Any) -> None:
    schema = WEATHER["function"]["parameters"]
    assert fits(value, schema) == jsonschema.Draft202012Validator(schema).is_valid(value)


@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_objects_are_found_in_pieces_of_any_size(size: int) -> None:
    text = '[{"a": "}]\\"{"}, {"b": [{}, []]}] and more'
    objects = JsonObjects()
    found = [one for at in range(0, len(text), size) for one in objects.push(text[at : at + size])]
    assert found == ['{"a": "}]\\"{"}', '{"b": [{}, []]}']
    assert (objects.is_closed, objects.rest) == (True, " and more")


def test_text_that_is_no_object_is_left_as_it_is() -> None:
    for text in ("hello", '{"a": b}', "{" * 100):
        objects = JsonObjects()
        assert objects.push(text) == []
        assert objects.is_broken
