"""Answers in a form that was asked for: real processes, the clients' own ways to ask, and every mistake."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import jsonschema
import ollama
import openai
import pytest
from pydantic import BaseModel, Field

from evaluation.local.broker import LocalBroker
from evaluation.local.worker import LocalWorker
from tests.support.apps import App
from tests.support.serving import ServingAgent

PROMPT = "turn on the kitchen light"
MESSAGES: Any = [{"role": "user", "content": PROMPT}]
BAD_SCHEMA = {"type": "objec"}
WHY = "the grammar cannot be used: Invalid type: objec"


class Action(BaseModel):
    device: Literal["light", "fan"]
    room: str = Field(max_length=12)
    minutes: int | None = Field(ge=0, le=600)


class Tree(BaseModel):
    name: str = Field(max_length=8)
    parts: list["Tree"] = Field(max_length=2)


@dataclass(frozen=True)
class Home:
    broker: LocalBroker
    agent: ServingAgent

    @property
    def openai(self) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{self.agent.url}/v1", api_key="none", max_retries=0)

    @property
    def ollama(self) -> ollama.Client:
        return ollama.Client(host=self.agent.url)

    def run(self, *arguments: str, lines: str = "") -> subprocess.CompletedProcess[str]:
        """`edge-agent generate`, alone on this device."""
        command = [sys.executable, "-m", "edge_agent", "generate", "--scheme", "slm", "--quiet", *arguments]
        return subprocess.run(command, input=lines, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    with ExitStack() as stack:
        broker = stack.enter_context(LocalBroker(tmp_path_factory.mktemp("broker")))
        stack.enter_context(LocalWorker(broker.url, "--model", "demo"))
        agent = stack.enter_context(ServingAgent("--broker", broker.url, "--device", "hall"))
        yield Home(broker, agent)


# -- the clients' own ways to ask ----------------------------------------------------------------------


def test_openais_client_parses_an_answer_into_a_pydantic_model(home: Home) -> None:
    for completions in (home.openai.chat.completions, home.openai.beta.chat.completions):
        answer = completions.parse(
            model="hybrid-lm", messages=MESSAGES, response_format=Action, seed=3, temperature=1.5
        )
        parsed = answer.choices[0].message.parsed
        assert isinstance(parsed, Action)
        assert answer.choices[0].finish_reason == "stop"
        fates = (answer.model_extra or {})["hybrid_lm"]["num_by_fate"]
        assert fates["forced"] > 0
        assert sum(fates.values()) == (answer.usage.completion_tokens if answer.usage else None)


def test_openais_client_streams_an_answer_into_a_recursive_model(home: Home) -> None:
    with home.openai.chat.completions.stream(
        model="hybrid-lm", messages=MESSAGES, response_format=Tree, seed=5, max_tokens=400
    ) as stream:
        chunks = [event.chunk for event in stream if event.type == "chunk"]
        parsed = stream.get_final_completion().choices[0].message.parsed
    assert isinstance(parsed, Tree)
    assert "forced" in [(one.model_extra or {}).get("hybrid_lm", {}).get("fate") for one in chunks]


def test_ollamas_client_gets_json_that_fits(home: Home) -> None:
    options = {"seed": 4, "temperature": 1.5}
    answer = home.ollama.chat("hybrid-lm", MESSAGES, format=Action.model_json_schema(), options=options)
    assert Action.model_validate_json(answer.message.content or "")
    options = {"seed": 2, "num_predict": 8}
    pieces = home.ollama.generate("hybrid-lm", PROMPT, format="json", stream=True, options=options)
    assert "".join(piece.response or "" for piece in pieces).startswith("{")


def test_an_app_gets_the_value_or_null_where_the_answer_is_cut_off(home: Home) -> None:
    with App(home.broker.port, "hall") as app:
        ask = {"prompt": PROMPT, "format": Action.model_json_schema(), "seed": 4}
        app.send("ask", {"id": "whole", **ask})
        whole = app.answer("whole")
        assert Action.model_validate(whole["json"]) == Action.model_validate_json(whole["text"])
        app.send("ask", {"id": "cut", **ask, "max_tokens": 3})
        cut = app.answer("cut")
        assert (cut["json"], cut["finish_reason"]) == (None, "length")
        assert whole["text"].startswith(cut["text"])
        app.send("ask", {"id": "regex", "prompt": PROMPT, "regex": "[0-9]{4}"})
        answer = app.answer("regex")
        assert (answer["json"], len(answer["text"])) == (None, 4)


@pytest.mark.parametrize(
    ("fields", "matches"),
    [
        ({"response_format": {"type": "json_object"}}, "{"),
        ({"regex": "(yes|no)"}, ("yes", "no")),
        ({"grammar": 'start: "a" | "b" start'}, ("a", "b")),
        ({"grammar": {"kind": "regex", "source": "[xyz]{3}"}}, ("x", "y", "z")),
    ],
)
def test_completions_take_every_kind_of_form(home: Home, fields: dict[str, Any], matches: Any) -> None:
    body = {"prompt": PROMPT, "seed": 1, "max_tokens": 40, **fields}
    choice = home.agent.request("/v1/completions", body).json["choices"][0]
    assert choice["text"].startswith(matches)


def test_lines_have_forms_of_their_own(home: Home, tmp_path: Path) -> None:
    lark = tmp_path / "form.lark"
    lark.write_text('start: "on" | "off"\n')
    schema = Action.model_json_schema()
    entries = [{"prompt": PROMPT, "json_schema": schema}, PROMPT, {"prompt": PROMPT, "regex": "[0-9]{2}"}]
    entries.append({"prompt": PROMPT, "lark": "start: nothing"})
    lines = "\n".join(map(json.dumps, entries))
    done = home.run("-", "--jsonl", "--json", "--seed", "1", "--lark", str(lark), lines=lines)
    first, second, third, fourth = map(json.loads, done.stdout.splitlines())
    jsonschema.validate(json.loads(first["text"]), schema)
    assert first["num_by_fate"]["forced"] > 0
    assert second["text"] in ("on", "off")
    assert third["text"].isdigit()
    assert fourth["error"].startswith("the grammar cannot be used")
    assert done.returncode == 1


# -- mistakes --------------------------------------------------------------------------------------------


def test_a_schema_that_does_not_compile_is_a_400_with_the_name_of_its_field(home: Home) -> None:
    described = {"name": "x", "strict": True, "schema": BAD_SCHEMA}
    for fields, param in (
        ({"response_format": {"type": "json_schema", "json_schema": described}}, "response_format"),
        ({"grammar": "start: nothing"}, "grammar"),
        ({"regex": "("}, "regex"),
    ):
        for streams in (True, False):
            body = {"messages": MESSAGES, "stream": streams, **fields}
            reply = home.agent.request("/v1/chat/completions", body)
            error = reply.json["error"]
            assert (reply.status, error["code"], error["param"]) == (400, "invalid_grammar", param)
            assert "\n" not in error["message"]
    form: Any = {"type": "json_schema", "json_schema": described}
    with pytest.raises(openai.BadRequestError, match=WHY):
        home.openai.chat.completions.create(model="hybrid-lm", messages=MESSAGES, response_format=form)


def test_ollamas_client_and_apps_are_told_why_a_schema_cannot_be_used(home: Home) -> None:
    with pytest.raises(ollama.ResponseError, match=WHY) as refused:
        home.ollama.chat("hybrid-lm", MESSAGES, format=BAD_SCHEMA)
    assert refused.value.status_code == 400
    with App(home.broker.port, "hall") as app:
        app.send("ask", {"id": "bad", "prompt": PROMPT, "format": BAD_SCHEMA})
        answer = app.answer("bad")
        assert (answer["error"], answer["num_tokens"]) == (WHY, 0)


def test_the_command_shows_one_line_for_a_schema_that_cannot_be_used(home: Home, tmp_path: Path) -> None:
    path = tmp_path / "schema.json"
    path.write_text(json.dumps(BAD_SCHEMA))
    done = home.run(PROMPT, "--json-schema", str(path))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"edge-agent: {WHY}\n"
