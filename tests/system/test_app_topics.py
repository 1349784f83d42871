"""Apps over MQTT with a real broker and a real agent: every topic, both versions of MQTT, faults, attacks."""

import asyncio
import json
import queue
import secrets
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edge_agent.agent import EdgeAgent
from edge_agent.config import AgentConfig
from evaluation.local.broker import LocalBroker
from tests.support.apps import App
from tests.support.asyncapi import check_sent
from tests.support.served_apps import Served
from tests.support.small_models import FolderOf

SLOW = {"scheme": "lossless", "on_cloud_loss": "wait"}  # no worker serves the pool: such an answer waits


def settings(broker: LocalBroker, draft_folder: FolderOf, **changes: Any) -> AgentConfig:
    """The draft model alone: no worker is needed."""
    given: dict[str, Any] = {
        "broker": broker.url,
        "device": "kitchen",
        "scheme": "slm",
        "app_topics": True,
        "model": str(draft_folder("llama")),
        "max_tokens": 8,
        "temperature": 1.0,
        "cloud_timeout": 1.0,
        "max_waiting": 2,
    }
    return AgentConfig(**(given | changes))


@pytest.fixture(scope="module")
def served(
    tmp_path_factory: pytest.TempPathFactory, draft_folder: FolderOf
) -> Iterator[tuple[LocalBroker, Served]]:
    with (
        LocalBroker(tmp_path_factory.mktemp("apps")) as broker,
        Served(settings(broker, draft_folder, home_assistant="on")) as one,
    ):
        yield broker, one


@pytest.fixture(params=[4, 5], ids=["mqtt311", "mqtt5"])
def app(request: pytest.FixtureRequest, served: tuple[LocalBroker, Served]) -> Iterator[App]:
    with App(served[0].port, version=request.param) as one:
        yield one


@pytest.fixture
def app5(served: tuple[LocalBroker, Served]) -> Iterator[App]:
    with App(served[0].port, version=5, more=("#",)) as one:
        yield one


def new_id() -> str:
    """One that no other test has used: the agent remembers ids for a minute."""
    return secrets.token_hex(8)


# -- the topics ----------------------------------------------------------------------------------------


def test_an_ask_is_answered_in_json_and_in_plain_text(app: App) -> None:
    id = new_id()
    app.send("ask", {"id": id, "prompt": "turn on the light", "seed": 7})
    answer = app.answer(id)
    assert (answer["error"], answer["seed"], answer["num_tokens"]) == (None, 7, 8)
    assert answer["fates"] == {"local": 8}
    assert app.event("answered")["text"] == answer["text"]
    app.send("ask", "turn on the light")
    plain = app.wait("answer").json
    assert plain["error"] is None
    assert isinstance(plain["id"], str)
    number = int(new_id(), 16) % 10**9
    app.send("ask", {"id": number, "messages": [{"role": "user", "content": "turn on the light"}], "seed": 7})
    assert app.answer(number)["text"] == answer["text"]


def test_the_text_is_that_of_the_python_api(app: App, served: tuple[LocalBroker, Served]) -> None:
    async def text() -> str:
        async with EdgeAgent.open(served[1].config) as agent:
            generation = agent.generate("close the window", seed=11)
            async for _ in generation:
                pass
            return generation.text

    id = new_id()
    app.send("ask", {"id": id, "prompt": "close the window", "seed": 11})
    assert app.answer(id)["text"] == asyncio.run(text())


def test_a_stream_has_the_whole_text_in_order(app: App) -> None:
    id = new_id()
    app.send("ask", {"id": id, "prompt": "turn on the light", "stream": True, "max_tokens": 40})
    answer = app.answer(id)
    batches = [one.json for one in app.all(f"token/{id}")]
    assert "".join(one["text"] for one in batches) == answer["text"]
    assert [one["n"] for one in batches] == [
        sum(len(one["tokens"]) for one in batches[:at]) for at in range(len(batches))
    ]
    assert all(one["text"] == "".join(each["text"] for each in one["tokens"]) for one in batches)


def test_an_ask_that_comes_twice_is_answered_once(app: App, served: tuple[LocalBroker, Served]) -> None:
    def num_answers() -> int:
        assert served[1].service is not None
        return sum(served[1].service.agent.totals.num_generations.values())

    ask = json.dumps({"id": new_id(), "prompt": "hello"})
    before = num_answers()
    for _ in range(3):
        app.send("ask", ask)
    first = app.wait("answer").payload
    app.send("ask", ask)
    assert app.wait("answer").payload == first
    assert num_answers() == before + 1
    app.send("ask", ask.replace("hello", "other"))  # the same id, but another ask
    assert app.wait("answer", lambda one: one.payload != first).json["error"] is None


def test_the_answer_is_not_retained_but_the_last_one_and_the_status_are(
    served: tuple[LocalBroker, Served],
) -> None:
    with App(served[0].port) as first:
        first.send("ask", {"id": "kept", "prompt": "hello"})
        answer = first.answer("kept")
        first.wait("last", lambda one: one.json["id"] == "kept")
        first.event("answered")
    with App(served[0].port) as second:
        while not all(second.all(name) for name in ("last", "stats", "status", "state")):
            time.sleep(0.01)
        retained = {name: second.all(name)[0].json for name in ("last", "stats", "status")}
        assert retained["last"] == answer
        assert retained["status"]["device"] == "kitchen"
        assert second.all("state")[0].payload == b"online"
        assert second.all("answer") == []


def test_a_client_of_mqtt_5_gets_the_answer_where_it_wants_it(app5: App) -> None:
    reply = app5.prefix + "reply/lights"
    app5.send("ask", {"prompt": "turn on the light"}, reply=reply, correlation=b"\x00\xff")
    answer = app5.wait("reply/lights")
    assert (answer.json["error"], answer.correlation, answer.retain) == (None, b"\x00\xff", False)
    app5.send("ask", "{", reply=reply, correlation=b"2")
    refused = app5.wait("reply/lights")
    assert refused.json["error"].startswith("the message begins like a JSON object")
    assert (refused.json["id"], refused.correlation) == (None, b"2")
    assert app5.all("answer") == []


def test_every_message_is_as_documented(app5: App) -> None:
    id = new_id()
    app5.send("ask", {"id": id, "prompt": "hello", "stream": True})
    app5.answer(id)
    app5.event("answered")
    app5.send("ask", {"id": id, "prompt": 1}, reply=app5.prefix + "reply/x")
    app5.send("set", "{")
    app5.event("refused")
    app5.event("refused")
    sent = [one for one in app5.seen if not one.topic.endswith(("/ask", "/set"))]
    assert {check_sent(one.topic, one.payload) for one in sent} == {
        *("state", "status", "stats", "event", "answer", "reply", "last", "token", "discovery")
    }


@pytest.mark.parametrize(
    "topic",
    ["hlm/v1/app/cellar/reply/x", "hlm/v1/app/kitchen/ask", "hlm/v1/worker/w1", "hlm/v1/app/kitchen/token/a"],
)
def test_an_app_cannot_make_the_device_send_elsewhere(app5: App, topic: str) -> None:
    app5.send("ask", {"id": new_id(), "prompt": "away"}, reply=topic)
    assert "response topic" in app5.event("refused")["error"]
    assert [one.topic for one in app5.seen if one.topic == topic and b"away" not in one.payload] == []
    assert app5.all("answer") == []


def test_settings_are_shown_in_the_status_and_mistakes_are_events(app: App) -> None:
    app.send("set", {"scheme": "lossless", "on_cloud_loss": "local"})
    app.wait("status", lambda one: (one.json["scheme"], one.json["on_cloud_loss"]) == ("lossless", "local"))
    app.send("set", {"risk": 0.005})
    app.wait("status", lambda one: (one.json["scheme"], one.json["risk"]) == ("opportunistic", 0.005))
    for mistake in ({"scheme": "fast"}, {"risk": 7}, {"max_tokens": 3}, {}, "lossless"):
        app.send("set", mistake)
        assert app.event("refused")["topic"] == "set"
    app.send("set", {"scheme": None, "risk": None, "on_cloud_loss": None})
    app.wait("status", lambda one: (one.json["scheme"], one.json["risk"]) == ("slm", None))


def test_an_answer_is_cancelled_by_its_id_or_as_the_one_that_runs(app: App) -> None:
    first = new_id()
    for id, cancel in ((first, {"id": first}), (new_id(), ""), (new_id(), "stop")):
        app.send("ask", {"id": id, "prompt": "hello", **SLOW})
        app.wait("status", lambda one: one.json["busy"])
        app.send("cancel", cancel)
        answer = app.answer(id)
        assert (answer["finish_reason"], answer["error"], answer["text"]) == ("cancelled", None, "")
    app.send("cancel", {"id": "unknown"})
    assert app.event("refused")["id"] == "unknown"


def test_more_asks_than_may_wait_are_refused_at_once(app: App) -> None:
    ids = [new_id() for _ in range(9)]
    for id in ids:
        app.send("ask", {"id": id, "prompt": "hello", **SLOW})
    refused = [app.wait("answer").json for _ in ids[3:]]
    assert [one["id"] for one in refused] == ids[3:]
    assert all("try again later" in one["error"] for one in refused)
    for id in ids[:3]:
        app.send("cancel", {"id": id})
        assert app.answer(id)["finish_reason"] == "cancelled"


def test_the_command_line_clients_of_mosquitto_work(served: tuple[LocalBroker, Served]) -> None:
    port = ["-V", "mqttv311", "-p", str(served[0].port)]
    reader = subprocess.Popen(
        [
            "mosquitto_sub",
            *port,
            "-t",
            "hlm/v1/app/kitchen/answer",
            "-t",
            "hlm/v1/app/kitchen/state",
            "-C",
            "2",
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert reader.stdout is not None
    assert reader.stdout.readline() == "online\n"  # it is subscribed
    ask = '{"id":"sh","prompt":"turn on the light"}'
    subprocess.run(["mosquitto_pub", *port, "-t", "hlm/v1/app/kitchen/ask", "-m", ask], check=True)
    assert json.loads(reader.stdout.readline())["id"] == "sh"
    assert reader.wait(10) == 0


def test_the_example_prints_the_answer(served: tuple[LocalBroker, Served]) -> None:
    example = Path(__file__).parents[2] / "examples" / "app_mqtt.sh"
    done = subprocess.run(
        ["sh", str(example), "kitchen", "turn on the light", "-p", str(served[0].port)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert json.loads(done.stdout)["error"] is None


# -- Home Assistant ------------------------------------------------------------------------------------


def test_the_device_is_announced_again_when_home_assistant_starts(served: tuple[LocalBroker, Served]) -> None:
    config = "homeassistant/device/hlm_kitchen/config"
    with App(served[0].port, more=(config,)) as app:
        app.prefix = ""
        retained = app.wait(config)
        assert retained.retain
        app.client.publish("homeassistant/status", "online", qos=1)
        again = app.wait(config)
        assert (again.retain, again.payload) == (False, retained.payload)


def test_switched_off_the_announcement_is_removed(broker: LocalBroker, draft_folder: FolderOf) -> None:
    config = "homeassistant/device/hlm_kitchen/config"
    with App(broker.port, more=(config,)) as app:
        app.prefix = ""
        app.client.publish(config, "{}", qos=1, retain=True)
        assert app.wait(config).payload == b"{}"
        with Served(settings(broker, draft_folder, home_assistant="off")):
            assert app.wait(config).payload == b""


# -- faults --------------------------------------------------------------------------------------------


def test_an_answer_that_ends_while_the_broker_is_away_arrives_afterwards(
    broker: LocalBroker, draft_folder: FolderOf
) -> None:
    with Served(settings(broker, draft_folder)) as served, App(broker.port) as app:
        app.send("ask", {"id": "f1", "prompt": "hello", "scheme": "lossless", "on_cloud_loss": "local"})
        app.wait("status", lambda one: one.json["busy"])
        broker.kill()
        assert served.service is not None
        end = time.monotonic() + 20
        while served.service.answers and time.monotonic() < end:
            time.sleep(0.05)
        assert not served.service.answers, "it goes on with the draft model alone"
        broker.start()
        app.wait("state", lambda one: one.payload == b"online")
        answer = app.answer("f1")
        assert answer["error"] is None
        assert answer["fates"] == {"unverified": 8}


def test_when_the_agent_ends_what_runs_gets_an_error_and_the_state_is_offline(
    broker: LocalBroker, draft_folder: FolderOf
) -> None:
    with App(broker.port) as app:
        served = Served(settings(broker, draft_folder, shutdown_timeout=0.2))
        with served:
            app.send("ask", {"id": "e1", "prompt": "hello", **SLOW})
            app.wait("status", lambda one: one.json["busy"])
        answer = app.answer("e1")
        assert "stopped" in answer["error"]
        app.wait("state", lambda one: one.payload == b"offline")


# -- attacks -------------------------------------------------------------------------------------------

HOSTILE = [
    b"",
    b" \n",
    b"\xff\xfe",
    b"{",
    b'{"prompt": 7}',
    b'{"prompt": ""}',
    b'{"prompt": "x", "messages": []}',
    b'{"messages": [[]]}',
    b'{"messages": [{"role": "user"}]}',
    b'{"prompt": "x", "temperature": NaN}',
    b'{"prompt": "x", "temperature": 1e999}',
    b'{"prompt": "x", "seed": ' + b"9" * 5000 + b"}",
    b'{"prompt": "x", "seed": -1}',
    b'{"prompt": "x", "max_tokens": 1000000}',
    b'{"prompt": "x", "max_tokens": true}',
    b'{"prompt": "\\ud800"}',
    b'{"id": "\\ud800", "prompt": "x"}',
    b'{"id": {}, "prompt": "x"}',
    b'{"id": "a/b", "prompt": "x", "stream": true}',
    b'{"id": "#", "prompt": "x", "stream": true}',
    b'{"prompt": "x", "stream": true}',
    b'{"prompt": "x", "stop": [1]}',
    b'{"prompt": "x", "format": {"type": "x"}}',
    b'{"prompt": "x", "format": 3}',
    b'{"prompt": "x", "grammar": {"kind": "lark"}}',
    b'{"prompt": "x", "regex": "' + b"(" * 60_000 + b'"}',
    b'{"prompt": "x", "scheme": "none"}',
    b'{"prompt": "x", "template_vars": {"messages": 1}}',
    b"[" * 60_000,
    b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
    b'{"prompt": "' + b"x" * 65_536 + b'"}',
    b"x" * 65_537,
    b'[{"prompt": "x"}]',
]


@pytest.mark.parametrize("name", ["ask", "set"])
def test_a_hostile_message_is_refused_in_one_line(app5: App, name: str) -> None:
    for payload in HOSTILE:
        app5.send(name, payload)
        refused = app5.event("refused")
        assert refused["topic"] == name, payload[:80]
        assert "\n" not in refused["error"]
        assert len(refused["error"]) < 400
    id = new_id()
    app5.send("ask", {"id": id, "prompt": "hello"})
    assert app5.answer(id)["error"] is None


def test_retained_asks_and_settings_have_no_effect(broker: LocalBroker, draft_folder: FolderOf) -> None:
    with App(broker.port) as app:
        for name, payload in (
            ("ask", {"id": "old", "prompt": "hello"}),
            ("set", {"scheme": "hlm"}),
            ("cancel", "{}"),
        ):
            app.send(name, payload, retain=True)
            app.wait(name)
        with Served(settings(broker, draft_folder)):
            app.wait("status")
            for name, payload in (("ask", {"id": "new", "prompt": "hello"}), ("set", {"scheme": "hlm"})):
                app.send(name, payload, retain=True)
                assert "retain" in app.event("refused")["error"]
                app.send(name, b"", retain=True)  # what an app does to take it back
            app.send("ask", {"id": "live", "prompt": "hello"})
            assert app.answer("live")["error"] is None
        assert [one.json["id"] for one in app.all("answer")] == ["live"]
        assert {one.json["scheme"] for one in app.all("status")} == {"slm"}


def test_an_app_that_sends_everything_back_ends_by_itself(
    broker: LocalBroker, draft_folder: FolderOf
) -> None:
    with Served(settings(broker, draft_folder)) as served, App(broker.port) as app, App(broker.port) as echo:
        keep = echo.client.on_message

        def send_back(client: Any, data: Any, message: Any) -> None:
            if not message.topic.endswith(("/ask", "/state")):
                echo.send("ask", bytes(message.payload))
            assert keep is not None
            keep(client, data, message)

        echo.client.on_message = send_back
        app.send("ask", {"id": "l1", "prompt": "hello"})
        app.answer("l1")
        app.send("ask", "{")
        app.event("refused")
        app.send("ask", {"id": "l2", "prompt": "hello"})
        app.answer("l2")
        assert served.service is not None
        assert sum(served.service.agent.totals.num_generations.values()) == 2


def test_an_app_that_asks_with_each_answer_is_stopped(broker: LocalBroker, draft_folder: FolderOf) -> None:
    with Served(settings(broker, draft_folder)), App(broker.port) as app, App(broker.port) as echo:
        keep = echo.client.on_message

        def ask_on(client: Any, data: Any, message: Any) -> None:
            if message.topic.endswith("/answer"):
                echo.send("ask", json.loads(message.payload)["text"])
            assert keep is not None
            keep(client, data, message)

        echo.client.on_message = ask_on
        app.send("ask", "hello")
        assert "in a loop" in app.event("refused")["error"]


def test_a_flood_gets_refusals_and_costs_no_memory(served: tuple[LocalBroker, Served]) -> None:
    with App(served[0].port, version=5) as app:
        app.send("ask", {"id": "first", "prompt": "hello", **SLOW})
        app.wait("status", lambda one: one.json["busy"])
        before = resident()
        padding = "x" * 20_000
        for number in range(1500):
            app.send("ask", {"id": number, "prompt": "hello", "padding": padding, **SLOW}, qos=0)
        app.send("cancel", {"id": "first"})
        assert app.wait("answer", lambda one: one.json["error"] is not None).json["text"] == ""
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:  # until the flood has been worked off
            app.send("cancel", "")
            time.sleep(0.2)
            app.send("ask", {"id": "after", "prompt": "hello"})
            try:
                if app.answer("after", timeout=1)["error"] is None:
                    break
            except queue.Empty:
                continue
        else:
            raise AssertionError("the agent does not answer after a flood")
        assert resident() - before < 60e6


def resident() -> int:
    """Bytes of this process in memory."""
    fields = Path("/proc/self/statm").read_text().split()
    return int(fields[1]) * 4096
