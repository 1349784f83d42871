"""A real Home Assistant beside a real broker, worker and agent: what a person gets, and what faults do.

`make test-ha` installs the releases and names their folder in HOME_ASSISTANT; other runs skip this. Home
Assistant is driven by REST alone.
"""

import json
import os
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from paho.mqtt import publish, subscribe

from evaluation.local.broker import LocalBroker
from evaluation.local.worker import LocalWorker
from tests.support.home_assistant import HomeAssistant, HomeAssistantError, releases
from tests.support.serving import ServingAgent
from tests.support.waiting import until

INSTALLED = Path(os.environ.get("HOME_ASSISTANT", "no such folder")).absolute()
RELEASES = releases(INSTALLED)
NEEDED = "needs Home Assistant: make test-ha"
DEVICE = "kitchen"
DISCOVERY = f"homeassistant/device/hlm_{DEVICE}/config"
PROMPT = "turn on the kitchen light"
SPOKEN = "the kitchen light is on"
ANSWERED = (
    "Okay"  # Home Assistant asks for a temperature of its own, and the demo pair knows single commands only
)
LAMP = {
    "name": "Lamp",
    "unique_id": "lamp",
    "command_topic": "lamp/set",
    "device": {"identifiers": ["lamp"], "name": "Ceiling", "suggested_area": "Kitchen"},
}

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not RELEASES, reason=NEEDED)]


@dataclass
class House:
    """All processes of one test."""

    broker: LocalBroker
    worker: LocalWorker
    agent: ServingAgent
    home: HomeAssistant
    talker: str  # the conversation agent that is ours

    def components(self) -> dict[str, dict[str, Any]]:
        """The entities of the discovery message that are on by default."""
        message: Any = subscribe.simple(DISCOVERY, port=self.broker.port)
        return {key: one for key, one in json.loads(message.payload)["cmps"].items() if one.get("en", True)}

    def entities(self) -> dict[str, str]:
        """Their states, by the key of each in the message; `missing` where Home Assistant has none."""
        states = self.home.states().values()
        named = {
            (one["entity_id"].split(".")[0], one["attributes"].get("friendly_name")): one["state"]
            for one in states
        }
        return {
            key: named.get((one["p"], f"{DEVICE} {one['name']}"), "missing")
            for key, one in self.components().items()
        }

    def agent_is_online(self) -> bool:
        """By the broker: until Home Assistant hears more, it shows what it heard before."""
        message: Any = subscribe.simple(f"hlm/v1/app/{DEVICE}/state", port=self.broker.port)
        return message.payload == b"online"

    def are_available(self) -> bool:
        return not {"unavailable", "missing"} & set(self.entities().values())

    def are_unavailable(self) -> bool:
        return set(self.entities().values()) == {"unavailable"}


@pytest.fixture(
    name="house", scope="module", params=RELEASES or [pytest.param("", marks=pytest.mark.skip(NEEDED))]
)
def house_with_an_agent(request: pytest.FixtureRequest) -> Iterator[House]:
    with ExitStack() as stack:
        broker = stack.enter_context(LocalBroker())
        worker = stack.enter_context(LocalWorker(broker.url, "--model", "demo"))
        arguments = ("--home-assistant", "on", "--temperature", "0", "--cloud-timeout", "3")
        agent = stack.enter_context(ServingAgent("--broker", broker.url, "--device", DEVICE, *arguments))
        home = stack.enter_context(HomeAssistant(INSTALLED, request.param))
        home.add_mqtt(broker.port)
        publish.single("homeassistant/light/lamp/config", json.dumps(LAMP), retain=True, port=broker.port)
        yield House(broker, worker, agent, home, talker(home, agent))


def talker(home: HomeAssistant, agent: ServingAgent) -> str:
    """Set up our agent as a conversation agent; its entity."""
    before = set(home.states())
    if home.release >= "2026":
        home.add("llama_cpp", {"base_url": f"{agent.url}/v1"}, {"chat_model": "hybrid-lm"})
    else:
        entry = home.add("ollama", {"url": agent.url}, {"model": "hybrid-lm:latest"})["result"]["entry_id"]
        step = home.post("/api/config/config_entries/options/flow", {"handler": entry})
        home.post(f"/api/config/config_entries/options/flow/{step['flow_id']}", {"llm_hass_api": "assist"})

    def added() -> list[str]:
        return [one for one in home.states() if one.startswith("conversation.") and one not in before]

    until(lambda: bool(added()), "Home Assistant has a new conversation agent")
    (ours,) = added()
    return ours


def speech(response: Any) -> str:
    return response["response"]["speech"]["plain"]["speech"]


def is_answered(house: House) -> bool:
    """Whether Assist answers; Home Assistant 2025.4 reports an error of Ollama as one of its own."""
    try:
        return ANSWERED in speech(house.home.ask(PROMPT, house.talker))
    except HomeAssistantError:
        return False


def test_the_device_has_every_entity_of_its_message(house: House) -> None:
    until(house.are_available, lambda: str(house.entities()))
    entities = house.entities()
    assert entities["busy"] == "off"
    assert entities["cloud"] == "on"
    assert entities["scheme"] == "lossless"
    assert float(entities["risk"]) == 0


def test_a_prompt_in_the_text_entity_is_answered(house: House) -> None:
    before = house.home.state("event.kitchen_answer")
    house.home.call("text.set_value", "text.kitchen_prompt", value=PROMPT)
    house.home.has("sensor.kitchen_answer", lambda state: SPOKEN in state)
    answer = house.home.states()["sensor.kitchen_answer"]["attributes"]
    assert SPOKEN in answer["text"]
    assert answer["error"] is None
    assert answer["num_uplinks"] > 0
    house.home.has("event.kitchen_answer", lambda state: state != before)
    event = house.home.states()["event.kitchen_answer"]["attributes"]
    assert event["event_type"] == "answered"
    assert SPOKEN in event["text"]


def test_a_prompt_by_notify_is_answered(house: House) -> None:
    house.home.call("notify.send_message", "notify.kitchen_ask", message="turn off the kitchen light")
    house.home.has("sensor.kitchen_answer", lambda state: "the kitchen light is off" in state)


def test_scheme_and_risk_are_set_and_shown(house: House) -> None:
    house.home.call("number.set_value", "number.kitchen_risk_budget", value=5.5)
    house.home.has("select.kitchen_scheme", "opportunistic")
    house.home.has("number.kitchen_risk_budget", "5.5")
    house.home.call("number.set_value", "number.kitchen_risk_budget", value=0)
    house.home.has("number.kitchen_risk_budget", lambda state: float(state) == 0)
    house.home.call("select.select_option", "select.kitchen_scheme", option="slm")
    house.home.has("select.kitchen_scheme", "slm")
    house.home.call("select.select_option", "select.kitchen_scheme", option="lossless")
    house.home.has("select.kitchen_scheme", "lossless")


def test_the_button_ends_nothing_while_nothing_runs(house: House) -> None:
    house.home.call("button.press", "button.kitchen_stop")
    assert house.agent.url  # and the next answer is whole
    test_a_prompt_in_the_text_entity_is_answered(house)


def test_the_conversation_agent_answers_turn_after_turn(house: House) -> None:
    first = house.home.ask(PROMPT, house.talker)
    assert ANSWERED in speech(first)
    second = house.home.ask("turn off the kitchen light", house.talker, first["conversation_id"])
    assert second["conversation_id"] == first["conversation_id"]
    assert ANSWERED in speech(second)


def test_without_a_worker_there_is_an_error_and_afterwards_an_answer(house: House) -> None:
    house.worker.kill()
    assert not is_answered(house)
    house.home.call("text.set_value", "text.kitchen_prompt", value=PROMPT)
    house.home.has("sensor.kitchen_answer", lambda state: "cloud" in state or "worker" in state)
    house.home.has("binary_sensor.kitchen_cloud", "off")
    house.worker.launch()
    house.worker.wait_ready()
    test_a_prompt_in_the_text_entity_is_answered(house)
    house.home.has("binary_sensor.kitchen_cloud", "on")
    assert ANSWERED in speech(house.home.ask(PROMPT, house.talker))


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_entities_are_unavailable_without_the_agent_and_come_back(house: House, end: str) -> None:
    getattr(house.agent, end)()
    until(house.are_unavailable, lambda: str(house.entities()))
    assert not is_answered(house)
    house.agent.start()
    until(house.are_available, lambda: str(house.entities()))
    assert ANSWERED in speech(house.home.ask(PROMPT, house.talker))


def test_entities_are_unavailable_without_the_broker_and_come_back(house: House) -> None:
    house.broker.kill()
    house.home.has("sensor.kitchen_answer", "unavailable")
    house.broker.start()
    until(house.agent_is_online, "the agent is connected again")
    until(house.are_available, lambda: str(house.entities()))
    before = house.home.state("event.kitchen_answer")

    def hears_an_answer() -> bool:
        """Home Assistant shows entities before it has subscribed again, so it may miss the first event."""
        house.home.call("text.set_value", "text.kitchen_prompt", value=PROMPT)
        return house.home.state("event.kitchen_answer") != before

    until(hears_an_answer, "Home Assistant hears an answer")


def test_entities_have_their_states_after_home_assistant_restarts(house: House) -> None:
    house.home.stop()
    house.home.start()
    until(house.are_available, lambda: str(house.entities()))
    house.home.has("sensor.kitchen_answer", lambda state: SPOKEN in state)
    test_a_prompt_in_the_text_entity_is_answered(house)


def test_off_removes_the_device(house: House) -> None:
    ours = {
        f"{one['p']}.{DEVICE}_{one['name'].lower().replace(' ', '_')}" for one in house.components().values()
    }
    assert ours <= set(house.home.states())
    house.agent.stop()
    house.agent.start("--home-assistant", "off")
    until(lambda: not ours & set(house.home.states()), "Home Assistant has forgotten the device")
    house.agent.stop()
    house.agent.start()
    until(house.are_available, lambda: str(house.entities()))
