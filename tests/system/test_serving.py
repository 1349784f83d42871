"""`edge-agent serve` with a broker, a worker and the demo pair, through the clients that people use."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import ollama
import openai
import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from evaluation.local.broker import LocalBroker, free_port
from evaluation.local.worker import LocalWorker
from tests.support.serving import ServingAgent, eventually

ROOT = Path(__file__).parents[2]
PROMPT = "turn on the kitchen light"
ASK: Any = [{"role": "user", "content": PROMPT}]
SEED = 7


@dataclass(frozen=True)
class Circle:
    """Broker, worker and agent, for all tests of this module that harm none of them."""

    broker: LocalBroker
    worker: LocalWorker
    agent: ServingAgent
    ollama_port: int

    @property
    def client(self) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{self.agent.url}/v1", api_key="none", max_retries=0)


@pytest.fixture(scope="module")
def circle(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Circle]:
    port = free_port()
    with (
        LocalBroker(tmp_path_factory.mktemp("broker")) as broker,
        LocalWorker(broker.url) as worker,
        ServingAgent("--broker", broker.url, "--ollama-port", str(port), "--no-app-topics") as agent,
    ):
        yield Circle(broker, worker, agent, port)


def texts(chunks: list[ChatCompletionChunk]) -> str:
    return "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)


def test_every_way_in_gives_the_text_of_the_command(circle: Circle) -> None:
    command = [sys.executable, "-m", "edge_agent", "generate", PROMPT, "--json", "--seed", str(SEED)]
    done = subprocess.run([*command, "--broker", circle.broker.url], capture_output=True, check=True)
    expected = json.loads(done.stdout)["text"]
    client = circle.client
    whole = client.chat.completions.create(model="hybrid-lm", messages=ASK, seed=SEED)
    assert whole.choices[0].message.content == expected
    stream = client.chat.completions.create(model="hybrid-lm", messages=ASK, seed=SEED, stream=True)
    assert texts(list(stream)) == expected
    other = ollama.Client(host=f"http://127.0.0.1:{circle.ollama_port}")
    options = {"seed": SEED}
    assert other.chat("hybrid-lm", ASK, options=options).message.content == expected
    lines = other.chat("hybrid-lm:latest", ASK, options=options, stream=True)
    assert "".join(line.message.content or "" for line in lines) == expected
    assert other.generate("hybrid-lm", PROMPT, options=options).response == expected


def test_an_answer_is_one_that_openais_types_accept(circle: Circle) -> None:
    reply = circle.agent.request("/v1/chat/completions", {"messages": ASK, "seed": SEED})
    found = ChatCompletion.model_validate(reply.json, strict=True)
    assert found.choices[0].finish_reason == "stop"
    assert found.usage is not None
    assert found.usage.total_tokens == found.usage.prompt_tokens + found.usage.completion_tokens
    assert reply.json["timings"]["predicted_n"] == found.usage.completion_tokens
    ours = reply.json["hybrid_lm"]
    assert (ours["seed"], ours["worker"], ours["scheme"]) == (SEED, "worker", "lossless")
    assert sum(ours["num_by_fate"].values()) == found.usage.completion_tokens
    assert ours["bytes_up"] > 0


def test_a_stream_has_the_order_that_clients_rely_on(circle: Circle) -> None:
    asked = {"messages": ASK, "seed": SEED, "stream": True, "stream_options": {"include_usage": True}}
    body = circle.agent.request("/v1/chat/completions", asked).body.decode()
    *events, done, end = body.split("\n\n")
    assert (done, end) == ("data: [DONE]", "")
    chunks: list[Any] = [json.loads(one.removeprefix("data: ")) for one in events]
    for chunk in chunks:
        ChatCompletionChunk.model_validate(chunk, strict=True)
    *middle, last, usage = chunks
    assert middle[0]["choices"][0]["delta"]["role"] == "assistant"
    assert all(set(one["choices"][0]["delta"]) == {"content"} for one in middle[1:])
    assert all(one["hybrid_lm"]["fate"] in last["hybrid_lm"]["num_by_fate"] for one in middle)
    assert last["choices"] == [{"index": 0, "delta": {}, "finish_reason": "stop"}]
    assert last["timings"]["draft_n"] >= last["timings"]["draft_n_accepted"] > 0
    assert usage["choices"] == []
    assert usage["usage"]["completion_tokens"] == len(middle) == last["hybrid_lm"]["num_tokens"]


def test_tentative_text_becomes_the_text_or_is_taken_back(circle: Circle) -> None:
    ours = {"tentative": True}
    stream = circle.client.chat.completions.create(
        model="hybrid-lm",
        messages=ASK,
        seed=SEED,
        stream=True,
        temperature=1.5,
        extra_body={"hybrid_lm": ours},
    )
    shown: list[str] = []
    num_tentative, final = 0, ""
    for chunk in stream:
        extra: Any = chunk.model_extra or {}
        event = extra.get("hybrid_lm", {})
        if "tentative" in event:
            num_tentative += 1
            shown.append(event["tentative"])
        elif "retract" in event:
            assert "".join(shown[-event["retract"] :]) == event["text"]
            del shown[-event["retract"] :]
        elif chunk.choices and event.get("token") is not None:
            text = chunk.choices[0].delta.content or ""
            assert not shown or shown.pop(0) == text
            final += text
    assert num_tentative > 0
    assert shown == []
    assert final


def test_a_model_name_can_choose_the_scheme(circle: Circle) -> None:
    for client_name in ("hybrid-lm@slm", "hybrid-lm@slm:latest"):
        found: Any = circle.client.chat.completions.create(model=client_name, messages=ASK, max_tokens=3)
        assert found.model == client_name
        assert found.hybrid_lm["scheme"] == "slm"
        assert found.hybrid_lm["num_by_fate"]["local"] == 3
    assert circle.client.models.retrieve("hybrid-lm@slm").id == "hybrid-lm@slm"
    (model,) = circle.client.models.list().data
    extra: Any = model.model_extra
    assert (model.id, extra["hybrid_lm"]["pool"]) == ("hybrid-lm", "demo")
    with pytest.raises(openai.NotFoundError, match="there is no model 'gpt-4'"):
        circle.client.chat.completions.create(model="gpt-4", messages=ASK)


def test_errors_are_those_of_the_client_library(circle: Circle) -> None:
    create: Any = circle.client.chat.completions.create
    with pytest.raises(openai.BadRequestError, match="`temperature` must be a number") as refused:
        create(model="hybrid-lm", messages=ASK, temperature="hot")
    assert refused.value.param == "temperature"
    with pytest.raises(openai.BadRequestError) as too_long:
        create(model="hybrid-lm", messages=[{"role": "user", "content": "light " * 2000}])
    assert too_long.value.code == "context_length_exceeded"
    with pytest.raises(openai.BadRequestError, match="`n` is not supported"):
        create(model="hybrid-lm", messages=ASK, n=2)
    other = ollama.Client(host=circle.agent.url)
    with pytest.raises(ollama.ResponseError, match="there is no model") as unknown:
        other.chat("llama3", ASK)
    assert unknown.value.status_code == 404


def test_the_two_requests_of_home_assistants_set_up_are_answered(circle: Circle) -> None:
    tool = {"type": "function", "function": {"name": "HassTurnOn", "parameters": {"type": "object"}}}
    for streams in (False, True):
        asked = {"model": "hybrid-lm", "messages": ASK, "tools": [tool], "max_tokens": 3, "stream": streams}
        reply = circle.agent.request("/v1/chat/completions", asked)
        assert reply.status == 200
        assert b'"finish_reason":"length"' in reply.body


def test_ollamas_client_finds_the_model(circle: Circle) -> None:
    client = ollama.Client(host=f"http://127.0.0.1:{circle.ollama_port}")
    assert [one.model for one in client.list().models] == ["hybrid-lm:latest"]
    assert [one.model for one in client.ps().models] == ["hybrid-lm:latest"]
    assert "completion" in (client.show("hybrid-lm").capabilities or [])
    assert client.pull("hybrid-lm").status == "success"
    with pytest.raises(ollama.ResponseError, match="not supported"):
        client.embed("hybrid-lm", "x")
    root = circle.agent.request("/", port=circle.ollama_port)
    assert root.body == b"Ollama is running"
    ended = client.generate("hybrid-lm", PROMPT, options={"num_predict": 2})
    assert (ended.done_reason, ended.eval_count) == ("length", 2)
    assert (ended.eval_duration or 0) > 0


def test_status_pages_show_what_happened(circle: Circle) -> None:
    agent = circle.agent
    agent.request("/v1/chat/completions", {"messages": ASK})
    health = agent.request("/health")
    assert health.status == 200
    assert health.json == {"status": "ok", "cloud": True, "worker": "worker", "scheme": "lossless"}
    status = agent.request("/hybrid/v1/status").json
    assert (status["busy"], status["waiting"], status["cloud"]) == (False, 0, True)
    assert status["stats"]["answers"] > 0
    assert status["stats"]["bytes_up"] > 0
    assert "hlm_edge_tokens_total" in agent.request("/metrics").body.decode()
    assert agent.request("/props").json["total_slots"] == 1
    assert [one["is_processing"] for one in agent.request("/slots").json] == [False]
    workers = agent.request("/hybrid/v1/pool").json["workers"]
    assert [(one["worker"], one["state"]) for one in workers] == [("worker", "online")]


def test_events_begin_with_the_status_and_follow_an_answer(circle: Circle) -> None:
    with httpx.stream("GET", f"{circle.agent.url}/hybrid/v1/events", timeout=20) as events:
        lines = (line for line in events.iter_lines() if line.startswith("data: "))
        first = json.loads(next(lines).removeprefix("data: "))
        circle.agent.request("/v1/chat/completions", {"messages": ASK})
        while True:
            found = json.loads(next(lines).removeprefix("data: "))
            if found["stats"]["answers"] > first["stats"]["answers"]:
                break


def test_a_hundred_clients_are_answered_or_clearly_refused(circle: Circle) -> None:
    async def ask(client: httpx.AsyncClient, number: int) -> httpx.Response:
        asked = {"messages": ASK, "seed": number, "max_tokens": 8}
        return await client.post(f"{circle.agent.url}/v1/chat/completions", json=asked, timeout=60)

    async def ask_all() -> list[httpx.Response]:
        limits = httpx.Limits(max_connections=100)
        async with httpx.AsyncClient(limits=limits) as client:
            return await asyncio.gather(*(ask(client, number) for number in range(100)))

    asyncio.run(ask_all())
    before = circle.agent.resident_mb()
    replies = asyncio.run(ask_all())
    assert {one.status_code for one in replies} == {200, 429}
    for refused in (one for one in replies if one.status_code == 429):
        assert int(refused.headers["retry-after"]) >= 1
        assert refused.json()["error"]["code"] == "queue_full"
    assert circle.agent.resident_mb() - before < 8
    assert circle.agent.request("/health").status == 200


def test_the_example_for_openais_library_runs(circle: Circle) -> None:
    command = [sys.executable, "examples/openai_client.py", PROMPT]
    environment = {**os.environ, "EDGE_AGENT_URL": circle.agent.url}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT, check=True)
    assert "kitchen" in done.stdout
    assert "bytes up; seed" in done.stderr


# -- faults in the middle of an answer -------------------------------------------------------------------


@pytest.fixture
def stopped_worker(circle: Circle) -> Iterator[int]:
    """The worker, unable to move until the test wakes it."""
    os.kill(circle.worker.pid, signal.SIGSTOP)
    try:
        yield circle.worker.pid
    finally:
        os.kill(circle.worker.pid, signal.SIGCONT)


def begun(agent: ServingAgent, **ours: object) -> tuple[httpx.Client, Any]:
    """A stream whose first token has come, and whose next ones need the worker."""
    asked = {"messages": ASK, "seed": SEED, "stream": True, "hybrid_lm": ours}
    client = httpx.Client(timeout=30)
    request = client.build_request("POST", f"{agent.url}/v1/chat/completions", json=asked)
    return client, client.send(request, stream=True)


LATER = {"scheme": "opportunistic", "threshold": 0.02}  # the first tokens are certain, one later is not


@pytest.mark.usefixtures("stopped_worker")
def test_a_lost_worker_ends_a_stream_with_an_error(circle: Circle) -> None:
    with ServingAgent("--broker", circle.broker.url, "--cloud-timeout", "1", "--no-app-topics") as agent:
        client = openai.OpenAI(base_url=f"{agent.url}/v1", api_key="none", max_retries=0)
        stream: Any = client.chat.completions.create(  # type: ignore[call-overload]
            model="hybrid-lm", messages=ASK, seed=SEED, stream=True, extra_body={"hybrid_lm": LATER}
        )
        found: list[ChatCompletionChunk] = []
        with pytest.raises(openai.APIError, match="no worker answered") as lost:
            found.extend(stream)
        assert lost.value.code == "cloud_lost"
        assert texts(found)
        whole = agent.request("/v1/chat/completions", {"messages": ASK})
        assert (whole.status, whole.json["error"]["code"]) == (503, "cloud_lost")
        assert whole.headers["Retry-After"]
        lines = agent.request("/api/chat", {"model": "hybrid-lm", "messages": ASK, "hybrid_lm": LATER}).body
        assert "no worker answered" in json.loads(lines.splitlines()[-1])["error"]


def test_a_client_that_leaves_frees_its_place(circle: Circle, stopped_worker: int) -> None:
    running, _ = begun(circle.agent, **LATER)
    with socket.create_connection(("127.0.0.1", circle.agent.port)) as waiting:
        body = json.dumps({"messages": ASK}).encode()
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
        waiting.sendall(head.encode() + body)
        eventually(lambda: circle.agent.request("/hybrid/v1/status").json["waiting"] == 1)
    eventually(lambda: circle.agent.request("/hybrid/v1/status").json["waiting"] == 0)
    assert circle.agent.request("/hybrid/v1/status").json["busy"]
    running.close()
    eventually(lambda: not circle.agent.request("/hybrid/v1/status").json["busy"])
    os.kill(stopped_worker, signal.SIGCONT)
    assert circle.agent.request("/v1/chat/completions", {"messages": ASK}).status == 200


@pytest.mark.usefixtures("stopped_worker")
def test_cancel_ends_the_running_answer(circle: Circle) -> None:
    client, stream = begun(circle.agent, **LATER)
    lines = stream.iter_lines()
    assert json.loads(next(lines).removeprefix("data: "))["choices"][0]["delta"]["content"]
    assert circle.agent.request("/hybrid/v1/cancel", b"").json == {"cancelled": True}
    *_, last, done = (line for line in lines if line.startswith("data: "))
    assert done == "data: [DONE]"
    found = json.loads(last.removeprefix("data: "))
    assert found["choices"][0]["finish_reason"] == "stop"
    assert found["hybrid_lm"]["cancelled"] is True
    client.close()
    assert circle.agent.request("/hybrid/v1/cancel", b"").status == 404


@pytest.mark.slow
def test_a_restarted_broker_changes_no_text(tmp_path: Path) -> None:
    with LocalBroker(tmp_path) as broker, LocalWorker(broker.url) as worker:
        arguments = ("--broker", broker.url, "--on-cloud-loss", "wait", "--cloud-timeout", "2")
        with ServingAgent(*arguments, "--no-app-topics") as agent:
            asked = {"messages": ASK, "seed": SEED, "hybrid_lm": LATER}
            expected = agent.request("/v1/chat/completions", asked).json["choices"][0]["message"]["content"]
            os.kill(worker.pid, signal.SIGSTOP)
            client, stream = begun(agent, **LATER)
            broker.restart()
            os.kill(worker.pid, signal.SIGCONT)
            lines = [line.removeprefix("data: ") for line in stream.iter_lines() if line.startswith("data: ")]
            client.close()
            assert lines.pop() == "[DONE]"
            found = [json.loads(line)["choices"][0]["delta"].get("content", "") for line in lines]
            assert "".join(found) == expected


# -- the end -----------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("stopped_worker")
def test_the_first_signal_lets_answers_end_and_then_says_why(circle: Circle) -> None:
    arguments = ("--broker", circle.broker.url, "--shutdown-timeout", "1", "--no-app-topics")
    with ServingAgent(*arguments) as agent:
        client, stream = begun(agent, **LATER)
        agent.send(signal.SIGINT)
        eventually(lambda: agent.request("/health").status == 503)
        refused = agent.request("/v1/chat/completions", {"messages": ASK})
        assert (refused.status, refused.json["error"]["code"]) == (503, "stopping")
        *_, last = (line for line in stream.iter_lines() if line)
        assert json.loads(last.removeprefix("data: "))["error"]["code"] == "stopping"
        client.close()
        assert agent.wait() == 0
    assert "Traceback" not in agent.log


@pytest.mark.usefixtures("stopped_worker")
def test_the_second_signal_ends_at_once(circle: Circle) -> None:
    with ServingAgent("--broker", circle.broker.url, "--no-app-topics") as agent:
        client, _ = begun(agent, **LATER)
        agent.send()
        eventually(lambda: agent.request("/health").status == 503)
        began = time.monotonic()
        agent.send()
        assert agent.wait() == 128 + signal.SIGTERM
        assert time.monotonic() - began < 8
        client.close()


def test_an_address_in_use_is_one_line(circle: Circle) -> None:
    command = [sys.executable, "-m", "edge_agent", "serve", "--http-port", str(circle.agent.port)]
    done = subprocess.run([*command, "--scheme", "slm"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert f"cannot listen on 127.0.0.1:{circle.agent.port} (Address already in use)" in line
    assert "--http-port" in line
