"""The demo pair's actions as calls of tools, and back."""

import json
from random import Random
from typing import Any

import jsonschema
import pytest

from common.grammar.engine import GrammarEngine
from common.protocol.grammar import Grammar
from edge_agent.draft_model.files import DEMO_FOLDER
from edge_agent.text.tokenizer import load_tokenizer
from edge_agent.tools.action_list import CANNOT, FAILED, ActionList
from edge_agent.tools.action_schema import home_schema
from edge_agent.tools.call import Call
from edge_agent.tools.exposed import Entity, exposed
from edge_agent.tools.intents import Intents
from edge_agent.tools.tool import ToolUse, tool_use
from evaluation.smart_home.command import training_command
from evaluation.smart_home.held_out import held_out
from tests.support.intents import INTENTS, PROMPT, asked, tool

LAMP = {"name": "Floor lamp", "area": "Living Room", "domain": ["light"]}
DONE = '{"data":{"response_type":"action_done"},"error":false}'
FIELDS = {
    "device": {"enum": ["fan", "light"]},
    "room": {"enum": ["kitchen", "attic"]},
    "action": {"enum": ["on", "off"]},
}


def use_of(*tools: dict[str, Any], choice: str | None = None) -> ToolUse:
    use = tool_use(tools or INTENTS, choice)
    assert use is not None
    return use


def intents(prompt: str = PROMPT) -> Intents:
    return Intents(use_of().callable, exposed([{"role": "system", "content": prompt}]))


def action(device: str, room: str, what: str, **more: Any) -> dict[str, Any]:
    return {"device": device, "room": room, "action": what, **more}


def test_every_command_of_the_task_fits_the_schema_of_the_home() -> None:
    tokenizer = load_tokenizer(DEMO_FOLDER / "tokenizer.json")
    engine, grammar = GrammarEngine(lambda: tokenizer), Grammar.json_schema(home_schema())
    rng = Random(3)
    lists = [[one.to_dict() for one in training_command(rng).actions] for _ in range(100)]
    for actions in [*lists, *(list(one.actions) for one in held_out(50))]:
        text = json.dumps(actions, separators=(",", ":"))
        allowed = engine.compile(grammar).allowed(tokenizer.encode(text).ids)
        assert allowed is not None
        assert allowed[1]
    fitting = jsonschema.Draft202012Validator(home_schema())
    for wrong in (
        action("light", "kitchen", "dock"),
        action("light", "moon", "on"),
        action("light", "kitchen", "brightness"),
        action("light", "kitchen", "brightness", value=101),
        action("light", "kitchen", "on", when="25:00"),
        action("light", "kitchen", "on", excluded="attic"),
        action("scene", "house", "party", when="dark"),
    ):
        assert not fitting.is_valid([wrong])


def test_entities_are_found_in_the_prompt_of_home_assistant() -> None:
    found = exposed([{"role": "system", "content": PROMPT}])
    assert found[1:3] == (
        Entity("Ceiling", "light", "Living Room"),
        Entity("Floor lamp", "light", "Living Room"),
    )
    assert found[-1] == Entity("Shopping list", "todo")
    assert exposed([{"role": "user", "content": PROMPT}]) == ()
    assert exposed([{"role": "system", "content": "- names: \n  domain: light\nand so on"}]) == ()


@pytest.mark.parametrize(
    ("done", "name", "arguments"),
    [
        (
            action("light", "kitchen", "on"),
            "HassTurnOn",
            {"name": "Kitchen light", "area": "Kitchen", "domain": ["light"]},
        ),
        (action("lamp", "living_room", "off"), "HassTurnOff", LAMP),
        (action("light", "all", "off"), "HassTurnOff", {"domain": ["light"]}),
        (action("light", "attic", "on"), "HassTurnOn", {"area": "attic", "domain": ["light"]}),
        (
            action("light", "kitchen", "brightness", value=40),
            "HassLightSet",
            {"name": "Kitchen light", "area": "Kitchen", "domain": ["light"], "brightness": 40},
        ),
        (
            action("lamp", "living_room", "colour", value="warm white"),
            "HassLightSet",
            {**LAMP, "temperature": 2700},
        ),
        (
            action("blinds", "bedroom", "position", value=30),
            "HassSetPosition",
            {
                "area": "bedroom",
                "domain": ["cover"],
                "device_class": ["blind", "curtain", "shutter", "shade"],
                "position": 30,
            },
        ),
        (
            action("heating", "bathroom", "temperature", value=21),
            "HassClimateSetTemperature",
            {"area": "bathroom", "temperature": 21},
        ),
        (
            action("vacuum", "house", "dock"),
            "HassVacuumReturnToBase",
            {"name": "Robot", "domain": ["vacuum"]},
        ),
        (action("timer", "house", "start", minutes=5), "HassStartTimer", {"minutes": 5}),
        (action("coffee_machine", "house", "on"), "HassTurnOn", {"name": "coffee machine"}),
    ],
)
def test_an_action_becomes_the_call_that_means_it_and_comes_back(
    done: dict[str, Any], name: str, arguments: dict[str, Any]
) -> None:
    call = intents().call(done)
    assert call is not None
    assert call.name.endswith(f"__{name}")
    assert call.arguments == arguments
    assert intents().action(call) == done


@pytest.mark.parametrize(
    "done",
    [
        action("light", "kitchen", "on", when="dark"),
        action("light", "kitchen", "on", after=10),
        action("light", "all", "off", excluded="kitchen"),
        action("light", "kitchen", "brighter", value=10),
        action("speaker", "kitchen", "play", value="jazz"),
        action("scene", "house", "party"),
        action("light", "kitchen", "brightness", value=150),
        action("timer", "house", "wake", when="07:00"),
        {"device": "light"},
        {"room": "kitchen"},
    ],
)
def test_what_no_tool_can_do_wholly_becomes_no_call(done: dict[str, Any]) -> None:
    assert intents().call(done) is None


def test_an_answer_says_so_when_no_tool_can_do_it() -> None:
    form = ActionList()
    form.conversation(asked("play jazz in the kitchen"), use_of())
    reader = form.reader(use_of())
    text = json.dumps([action("speaker", "kitchen", "play", value="jazz")])
    assert [*reader.push(text), *reader.finish()] == [CANNOT]


def test_a_tool_that_takes_actions_gets_them_as_they_are() -> None:
    control = tool("control", FIELDS, "device", "room", "action")
    form = ActionList()
    use = use_of(control, choice="required")
    form.conversation(asked("turn on the attic fan"), use)
    reader = form.reader(use)
    done = action("fan", "attic", "on")
    assert reader.push(json.dumps([done])) == [Call("control", done)]
    source = form.grammar(use, None).source
    assert '"attic"' in source
    assert "oven" not in source  # only what the tool itself takes


def test_a_command_is_shown_alone_and_what_was_done_begins_the_next_answer() -> None:
    form, use = ActionList(), use_of()
    before = asked("turn on the kitchen light")
    assert form.conversation([*before, *asked("and off")[1:]], use).messages == [
        {"role": "user", "content": "and off"}
    ]
    call = intents().call(action("light", "kitchen", "on"))
    assert call is not None
    calls = [{"id": "c", "function": {"name": call.name, "arguments": call.arguments}}]
    for id in ({"tool_call_id": "c"}, {}):  # Ollama's clients send none
        result = {"role": "tool", "content": DONE, **id}
        shown = form.conversation([*before, {"role": "assistant", "tool_calls": calls}, result], use)
        assert shown.beginning == '[{"device":"light","room":"kitchen","action":"on"}]\n'
        assert not shown.may_call


@pytest.mark.parametrize(
    "result",
    [
        '{"error":"MatchFailedError","error_text":"x"}',
        '{"data":{"error":"MatchFailedError"},"error":true}',
        '{"data":{"response_type":"error"},"error":false}',
    ],
)
def test_a_call_that_failed_is_not_reported_as_done(result: str) -> None:
    form, use = ActionList(), use_of()
    call = intents().call(action("light", "kitchen", "on"))
    assert call is not None
    calls = [{"id": "c", "function": {"name": call.name, "arguments": call.arguments}}]
    messages = [
        *asked("turn on the kitchen light"),
        {"role": "assistant", "tool_calls": calls},
        {"role": "tool", "tool_call_id": "c", "content": result},
    ]
    shown = form.conversation(messages, use)
    assert shown.beginning == "[]\n"
    assert shown.rest is not None
    assert FAILED in shown.rest.source


def test_a_conversation_without_tools_is_untouched() -> None:
    messages = [*asked("hello"), {"role": "assistant", "content": "hi"}, {"role": "user", "content": "and?"}]
    assert ActionList().conversation(messages, None).messages == messages
