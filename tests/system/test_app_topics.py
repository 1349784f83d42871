"""Apps over MQTT against a real broker and a real agent: every topic, both versions of MQTT, faults, attacks."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from edge_agent import app_topics
from edge_agent.agent import EdgeAgent
from edge_agent.config import AgentConfig
from edge_agent.service.service import Service
from evaluation.local.broker import LocalBroker
from tests.support.apps import App
from tests.support.small_models import FolderOf


class Served:
    """An agent that answers apps, in a thread of its own."""

    def __init__(self, config: AgentConfig) -> None:
        self.config = config
        self.service: Service | None = None
        self._ready = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def call(self, function: Any, *arguments: Any) -> None:
        """In the agent's event loop."""
        self._loop.call_soon_threadsafe(function, *arguments)

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:
            self._failure = error
        finally:
            self._ready.set()

    async def _serve(self) -> None:
        self._loop, self._end = asyncio.get_running_loop(), asyncio.Event()
        async with EdgeAgent.open(self.config, for_apps=True) as agent:
            self.service = Service(agent, max_waiting=self.config.max_waiting)
            async with app_topics.serving(self.service, self.config):
                self._ready.set()
                await self._end.wait()
                await self.service.close(5)

    def __enter__(self) -> "Served":
        self._thread.start()
        assert self._ready.wait(30)
        if self._failure is not None:
            raise self._failure
        return self

    def __exit__(self, *_error: object) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(30)
        assert not self._thread.is_alive()


@pytest.fixture
def config(broker: LocalBroker, draft_folder: FolderOf) -> AgentConfig:
    """The draft model alone: no worker is needed."""
    return AgentConfig(
        broker=broker.url,
        device="kitchen",
        scheme="slm",
        app_topics=True,
        model=str(draft_folder("llama")),
        max_tokens=8,
        temperature=1.0,
    )


@pytest.fixture(params=[4, 5], ids=["mqtt 3.1.1", "mqtt 5"])
def app(request: pytest.FixtureRequest, broker: LocalBroker) -> Iterator[App]:
    with App(broker.port, version=request.param) as one:
        yield one


def test_an_ask_is_answered_once_and_the_status_is_retained(config: AgentConfig, app: App) -> None:
    with Served(config):
        assert app.wait("state").payload == b"online"
        app.send("ask", {"id": "a1", "prompt": "turn on the light", "seed": 7})
        answer = app.answer("a1")
        assert answer["error"] is None
        assert answer["finish_reason"] in ("stop", "length")
        assert answer["seed"] == 7
        app.send("ask", "turn on the light")
        plain = app.wait("answer").json
        assert plain["error"] is None
        assert plain["id"]
    app.wait("state", lambda one: one.payload == b"offline")
