"""Apps over MQTT while broker, worker and agent, real processes, are killed in mid-answer.

Law: the app gets the whole text, or a clear error, or learns that the agent is gone; it never waits in vain.
"""

import json
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from evaluation.local.broker import LocalBroker
from evaluation.local.worker import LocalWorkers
from tests.support.apps import App
from tests.support.serving import ServingAgent
from tests.support.small_models import FolderOf

pytestmark = pytest.mark.slow

PROMPT = "turn on the light"
NUM_TOKENS = 240
ASK: dict[str, Any] = {"prompt": PROMPT, "seed": 7, "stream": True}


@dataclass(frozen=True)
class Circle:
    """Two workers, so that one is left when the other is killed."""

    broker: LocalBroker
    workers: LocalWorkers
    flags: tuple[str, ...]

    def agent(self, *more: str) -> ServingAgent:
        return ServingAgent(*self.flags, *more)


@pytest.fixture
def circle(broker: LocalBroker, family_folder: FolderOf, draft_folder: FolderOf) -> Iterator[Circle]:
    flags = ("--broker", broker.url, "--device", "kitchen", "--model", str(draft_folder("llama")))
    sampling = ("--temperature", "1", "--max-tokens", str(NUM_TOKENS))
    model = ("--model", str(family_folder("llama")))
    with LocalWorkers(broker.url, *model, names=["w1", "w2"]) as workers:
        yield Circle(broker, workers, (*flags, *sampling))


def begun(app: App, id: str, **more: object) -> None:
    """Ask, and wait until the answer has begun."""
    app.send("ask", {**ASK, "id": id, **more})
    app.wait(f"token/{id}")


def undisturbed(app: App) -> str:
    app.send("ask", {**ASK, "id": "undisturbed"})
    answer = app.answer("undisturbed", timeout=60)
    assert (answer["error"], answer["num_tokens"]) == (None, NUM_TOKENS)
    return answer["text"]


def test_the_text_is_the_same_over_http_and_mqtt_and_after_faults(circle: Circle) -> None:
    with circle.agent() as agent, App(circle.broker.port, version=5) as app:
        text = undisturbed(app)
        body = {"messages": [{"role": "user", "content": PROMPT}], "seed": 7}
        assert agent.request("/v1/chat/completions", body).json["choices"][0]["message"]["content"] == text

        begun(app, "broker")
        circle.broker.kill()
        circle.broker.start()
        answer = app.answer("broker", timeout=90)
        assert (answer["error"], answer["text"]) == (None, text)

        begun(app, "worker")
        worker = app.wait("status", lambda one: one.json["worker"] is not None).json["worker"]
        circle.workers[worker].kill()
        answer = app.answer("worker", timeout=90)
        assert (answer["error"], answer["text"]) == (None, text)


def test_without_any_worker_the_answer_is_an_error_or_local(circle: Circle) -> None:
    with circle.agent("--cloud-timeout", "2") as _, App(circle.broker.port) as app:
        begun(app, "lost")
        for name in ("w1", "w2"):
            circle.workers[name].kill()
        answer = app.answer("lost", timeout=60)
        assert answer["finish_reason"] == "error"
        assert "no worker" in answer["error"]
        app.send("ask", {**ASK, "id": "local", "on_cloud_loss": "local"})
        answer = app.answer("local", timeout=60)
        assert (answer["error"], answer["num_tokens"]) == (None, NUM_TOKENS)
        assert set(answer["fates"]) == {"unverified"}


def test_an_agent_that_is_killed_is_offline_and_answers_again_after_its_restart(circle: Circle) -> None:
    with App(circle.broker.port) as app:
        with circle.agent() as agent:
            begun(app, "killed")
            agent.kill()
            app.wait("state", lambda one: one.payload == b"offline")
        with circle.agent():
            app.wait("state", lambda one: one.payload == b"online")
            begun(app, "killed")
            assert app.answer("killed", timeout=60)["error"] is None


def test_an_agent_that_is_stopped_finishes_what_runs(circle: Circle) -> None:
    with circle.agent() as agent, App(circle.broker.port) as app:
        begun(app, "last")
        agent.send(signal.SIGTERM)
        app.send("ask", {"id": "late", "prompt": PROMPT})
        assert "stopped" in app.answer("late")["error"]
        assert app.answer("last", timeout=60)["num_tokens"] == NUM_TOKENS
        app.wait("state", lambda one: one.payload == b"offline")
        assert agent.wait() == 0


def test_every_payload_of_a_real_agent_is_as_documented(circle: Circle) -> None:
    from tests.common.test_asyncapi import check

    with circle.agent("--home-assistant", "on"), App(circle.broker.port, more=("#",)) as app:
        begun(app, "a1")
        app.answer("a1", timeout=60)
        app.event("answered")
        app.send("ask", "{")
        app.event("refused")
        app.all("state")
    kinds = {"last": "answer", "worker": "workerStatus", "config": "discovery"}
    checked: set[str] = set()
    for one in app.seen:
        levels = one.topic.split("/")
        name = levels[-2] if levels[-2] in ("token", "worker") else levels[-1]
        kind = {**kinds, "token": "tokens"}.get(name, name)
        if one.payload == b"" or name in ("ask", "state") or "open" in levels or "draft" in levels:
            continue
        if "correction" not in levels:
            check(kind, json.loads(one.payload))
            checked.add(kind)
    assert checked == {"answer", "tokens", "status", "stats", "event", "workerStatus", "discovery"}
