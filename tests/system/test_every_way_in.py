"""One prompt and seed give one text, whichever way they come in: real processes and real clients."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import ollama
import openai
import pytest

from edge_agent import AgentConfig, EdgeAgent
from evaluation.local.broker import LocalBroker, free_port
from evaluation.local.worker import LocalWorker
from tests.support.apps import App
from tests.support.serving import ServingAgent

PROMPT = "turn on the kitchen light"
SEED = 7
SCHEMES = ("lossless", "opportunistic")
THRESHOLD = 0.3  # without one, opportunistic learns


@dataclass(frozen=True)
class Home:
    broker: LocalBroker
    agent: ServingAgent
    ollama_port: int


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    port = free_port()
    with ExitStack() as stack:
        broker = stack.enter_context(LocalBroker(tmp_path_factory.mktemp("broker")))
        stack.enter_context(LocalWorker(broker.url, "--model", "demo"))
        flags = ("--broker", broker.url, "--device", "hall", "--ollama-port", str(port), "--slots", "2")
        yield Home(broker, stack.enter_context(ServingAgent(*flags, "--threshold", str(THRESHOLD))), port)


def from_command(home: Home, scheme: str) -> str:
    command = [sys.executable, "-m", "edge_agent", "generate", PROMPT, "--json", "--seed", str(SEED)]
    flags = ["--broker", home.broker.url, "--scheme", scheme, "--threshold", str(THRESHOLD)]
    return json.loads(subprocess.run([*command, *flags], capture_output=True, check=True).stdout)["text"]


def from_python(home: Home, scheme: str) -> str:
    async def text() -> str:
        async with EdgeAgent.open(AgentConfig(broker=home.broker.url)) as agent:
            generation = agent.generate(PROMPT, seed=SEED, scheme=scheme, threshold=THRESHOLD)
            return "".join([token.text async for token in generation])

    return asyncio.run(text())


def from_openai(home: Home, scheme: str) -> str:
    client = openai.OpenAI(base_url=f"{home.agent.url}/v1", api_key="none", max_retries=0)
    messages: Any = [{"role": "user", "content": PROMPT}]
    ours = {"hybrid_lm": {"scheme": scheme, "threshold": THRESHOLD}}
    stream = client.chat.completions.create(
        model="hybrid-lm", messages=messages, seed=SEED, stream=True, extra_body=ours
    )
    return "".join(choice.delta.content or "" for chunk in stream for choice in chunk.choices)


def from_ollama(home: Home, scheme: str) -> str:
    client = ollama.Client(host=f"http://127.0.0.1:{home.ollama_port}")
    messages = [{"role": "user", "content": PROMPT}]
    answer = client.chat(f"hybrid-lm@{scheme}", messages, options={"seed": SEED})
    return answer.message.content or ""


def from_mqtt(home: Home, scheme: str) -> str:
    with App(home.broker.port, "hall") as app:
        ask = {"id": scheme, "prompt": PROMPT, "seed": SEED, "scheme": scheme, "threshold": THRESHOLD}
        app.send("ask", ask)
        return app.answer(scheme)["text"]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_way_in_gives_the_same_text(home: Home, scheme: str) -> None:
    expected = from_command(home, scheme)
    assert expected
    ways = (from_python, from_openai, from_ollama, from_mqtt)
    assert {way.__name__: way(home, scheme) for way in ways} == {way.__name__: expected for way in ways}


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_page_gives_the_same_text(home: Home, scheme: str) -> None:
    browsing = pytest.importorskip("tests.support.browsing", reason="playwright is not installed")
    with browsing.browsing() as browser, browsing.open_page(browser, home.agent.url) as page:
        browsing.choose(page, scheme=scheme, seed=str(SEED))
        browsing.write(page, PROMPT)
        browsing.finished(page)
        assert browsing.text_of(page) == from_command(home, scheme)
