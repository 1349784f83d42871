"""One prompt and seed give one text, whichever way they come in: real processes and real clients."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import jsonschema
import ollama
import openai
import pytest

from edge_agent import AgentConfig, EdgeAgent, Grammar
from evaluation.local.broker import LocalBroker, free_port
from evaluation.local.worker import LocalWorker
from tests.support.apps import App
from tests.support.serving import ServingAgent

PROMPT = "turn on the kitchen light"
SEED = 7
THRESHOLD = 0.3  # without one, opportunistic learns
SCHEMA: dict[str, Any] = {
    "type": "array",
    "maxItems": 2,
    "items": {
        "type": "object",
        "properties": {"device": {"enum": ["light", "fan"]}, "room": {"type": "string", "maxLength": 12}},
        "required": ["device", "room"],
        "additionalProperties": False,
    },
}


ASKS = [("lossless", None), ("opportunistic", None), ("lossless", SCHEMA), ("coupled", SCHEMA)]

Schema: TypeAlias = dict[str, Any] | None


@dataclass(frozen=True)
class Home:
    folder: Path
    broker: LocalBroker
    agent: ServingAgent
    ollama_port: int

    def written(self, schema: Schema) -> Path:
        """A file with the schema."""
        path = self.folder / "schema.json"
        path.write_text(json.dumps(schema, indent=2))
        return path


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    port = free_port()
    with ExitStack() as stack:
        broker = stack.enter_context(LocalBroker(tmp_path_factory.mktemp("broker")))
        stack.enter_context(LocalWorker(broker.url, "--model", "demo"))
        flags = ("--broker", broker.url, "--device", "hall", "--ollama-port", str(port), "--slots", "2")
        folder = tmp_path_factory.mktemp("files")
        yield Home(
            folder, broker, stack.enter_context(ServingAgent(*flags, "--threshold", str(THRESHOLD))), port
        )


def from_command(home: Home, scheme: str, schema: Schema = None) -> str:
    command = [sys.executable, "-m", "edge_agent", "generate", PROMPT, "--json", "--seed", str(SEED)]
    flags = ["--broker", home.broker.url, "--scheme", scheme, "--threshold", str(THRESHOLD)]
    if schema is not None:
        flags += ["--json-schema", str(home.written(schema))]
    return json.loads(subprocess.run([*command, *flags], capture_output=True, check=True).stdout)["text"]


def from_python(home: Home, scheme: str, schema: Schema = None) -> str:
    grammar = None if schema is None else Grammar.json_schema(schema)

    async def text() -> str:
        async with EdgeAgent.open(AgentConfig(broker=home.broker.url)) as agent:
            generation = agent.generate(
                PROMPT, seed=SEED, scheme=scheme, threshold=THRESHOLD, grammar=grammar
            )
            return "".join([token.text async for token in generation])

    return asyncio.run(text())


def from_openai(home: Home, scheme: str, schema: Schema = None) -> str:
    client = openai.OpenAI(base_url=f"{home.agent.url}/v1", api_key="none", max_retries=0)
    messages: Any = [{"role": "user", "content": PROMPT}]
    ours = {"hybrid_lm": {"scheme": scheme, "threshold": THRESHOLD}}
    described = {"name": "actions", "strict": True, "schema": schema}
    form: Any = openai.omit if schema is None else {"type": "json_schema", "json_schema": described}
    stream = client.chat.completions.create(
        model="hybrid-lm", messages=messages, seed=SEED, stream=True, response_format=form, extra_body=ours
    )
    return "".join(choice.delta.content or "" for chunk in stream for choice in chunk.choices)


def from_ollama(home: Home, scheme: str, schema: Schema = None) -> str:
    client = ollama.Client(host=f"http://127.0.0.1:{home.ollama_port}")
    messages = [{"role": "user", "content": PROMPT}]
    answer = client.chat(f"hybrid-lm@{scheme}", messages, format=schema, options={"seed": SEED})
    return answer.message.content or ""


def from_mqtt(home: Home, scheme: str, schema: Schema = None) -> str:
    with App(home.broker.port, "hall") as app:
        ask = {"prompt": PROMPT, "seed": SEED, "scheme": scheme, "threshold": THRESHOLD, "format": schema}
        id = f"{scheme} {schema is None}"
        app.send("ask", {"id": id, **ask})
        answer = app.answer(id)
        assert answer["json"] == (None if schema is None else json.loads(answer["text"]))
        return answer["text"]


@pytest.mark.parametrize(("scheme", "schema"), ASKS)
def test_every_way_in_gives_the_same_text(home: Home, scheme: str, schema: Schema) -> None:
    expected = from_command(home, scheme, schema)
    assert expected
    if schema is not None:
        jsonschema.validate(json.loads(expected), schema)
    ways = from_python, from_openai, from_ollama, from_mqtt
    assert {way.__name__: way(home, scheme, schema) for way in ways} == {
        way.__name__: expected for way in ways
    }


@pytest.mark.parametrize(("scheme", "schema"), ASKS)
def test_the_page_gives_the_same_text(home: Home, scheme: str, schema: Schema) -> None:
    browsing = pytest.importorskip("tests.support.browsing", reason="playwright is not installed")
    with browsing.browsing() as browser, browsing.open_page(browser, home.agent.url) as page:
        browsing.choose(page, scheme=scheme, seed=str(SEED))
        if schema is not None:
            browsing.choose(page, format="json_schema", schema=json.dumps(schema, indent=1))
        browsing.write(page, PROMPT)
        browsing.finished(page)
        assert browsing.text_of(page) == from_command(home, scheme, schema)
        assert ("forced" in browsing.marks_of(page)) == (schema is not None)
