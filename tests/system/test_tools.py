"""Tools over HTTP, with a broker, a worker and the demo pair, through the clients that people use."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import jsonschema
import ollama
import openai
import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from edge_agent.agent import EdgeAgent
from edge_agent.config import AgentConfig
from edge_agent.errors import GrammarError, PromptError
from evaluation.local.broker import LocalBroker
from evaluation.local.worker import LocalWorker
from evaluation.smart_home.scoring import read_actions
from tests.support.intents import CLOCK, INTENTS, WEATHER, asked, tool
from tests.support.serving import ServingAgent

COMMAND = "turn on the kitchen light and turn off the office plug"
CALLED = [
    ("intent__HassTurnOn", {"name": "Kitchen light", "area": "Kitchen", "domain": ["light"]}),
    ("intent__HassTurnOff", {"name": "Office plug", "area": "Office", "domain": ["switch"]}),
]
TOO_BRIGHT = "set the kitchen light to 150 percent"


@pytest.fixture(name="agent", scope="module")
def serving_agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServingAgent]:
    with (
        LocalBroker(tmp_path_factory.mktemp("broker")) as broker,
        LocalWorker(broker.url) as _worker,
        ServingAgent("--broker", broker.url, "--no-app-topics", "--temperature", "0") as agent,
    ):
        yield agent


@pytest.fixture(name="client")
def openais_client(agent: ServingAgent) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{agent.url}/v1", api_key="none", max_retries=0)


def ask(client: openai.OpenAI, messages: Any, tools: Any, **more: Any) -> Any:
    return client.chat.completions.create(model="hybrid-lm", messages=messages, tools=tools, **more)


def called(message: Any) -> list[tuple[str, dict[str, Any]]]:
    calls = message.tool_calls or []
    return [(one.function.name, json.loads(one.function.arguments)) for one in calls]


def test_a_command_is_called_and_its_results_are_answered(client: openai.OpenAI) -> None:
    messages: list[Any] = asked(COMMAND)
    found = ask(client, messages, INTENTS)
    choice = ChatCompletion.model_validate(found.model_dump()).choices[0]
    assert (choice.finish_reason, choice.message.content) == ("tool_calls", None)
    assert called(choice.message) == CALLED
    ids = [one.id for one in choice.message.tool_calls or []]
    assert len(set(ids)) == 2
    assert found.hybrid_lm["num_by_fate"]["forced"] > found.usage.completion_tokens / 2
    results = [{"role": "tool", "tool_call_id": id, "content": '{"data":{},"error":false}'} for id in ids]
    answer = ask(client, [*messages, choice.message.to_dict(), *results], INTENTS)
    assert answer.choices[0].finish_reason == "stop"
    assert "the kitchen light is on and the office plug is off" in answer.choices[0].message.content


def test_a_stream_has_one_whole_call_in_a_chunk_and_then_the_end(client: openai.OpenAI) -> None:
    chunks = list(ask(client, asked(COMMAND), INTENTS, stream=True))
    for chunk in chunks:
        ChatCompletionChunk.model_validate(chunk.model_dump())
    first, *calls, last = [chunk.choices[0] for chunk in chunks if chunk.choices]
    assert first.delta.role == "assistant"
    assert [len(one.delta.tool_calls) for one in calls] == [1, 1]
    assert [one.delta.tool_calls[0].index for one in calls] == [0, 1]
    assert [called(one.delta)[0] for one in calls] == CALLED
    assert (last.delta.model_dump(exclude_none=True), last.finish_reason) == ({}, "tool_calls")


def test_without_a_call_the_answer_is_text(client: openai.OpenAI) -> None:
    whole = ask(client, asked("tell me a joke"), INTENTS)
    assert (whole.choices[0].finish_reason, whole.choices[0].message.tool_calls) == ("stop", None)
    text = whole.choices[0].message.content
    assert text.startswith("Sorry")
    chunks = ask(client, asked("tell me a joke"), INTENTS, stream=True)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == text


@pytest.mark.parametrize("streams", [False, True])
def test_ollamas_client_gets_calls_and_sends_results(agent: ServingAgent, streams: bool) -> None:
    client = ollama.Client(host=agent.url)
    messages: list[Any] = asked(COMMAND)
    if streams:
        lines = list(client.chat("hybrid-lm", messages, tools=INTENTS, stream=True))
        assert [line.done for line in lines] == [False, False, True]
        calls = [call for line in lines for call in line.message.tool_calls or []]
        assert lines[-1].done_reason == "stop"
    else:
        calls = list(client.chat("hybrid-lm", messages, tools=INTENTS).message.tool_calls or [])
    assert [(call.function.name, call.function.arguments) for call in calls] == CALLED
    message = {"role": "assistant", "content": "", "tool_calls": [call.model_dump() for call in calls]}
    results = [{"role": "tool", "content": '{"response_type": "action_done"}'} for _ in calls]
    answer = client.chat("hybrid-lm", [*messages, message, *results], tools=INTENTS)
    assert "the kitchen light is on" in str(answer.message.content)


def test_a_choice_is_kept(client: openai.OpenAI) -> None:
    question = [{"role": "user", "content": "what is the weather in rome?"}]
    named = {"type": "function", "function": {"name": "get_weather"}}
    schemas = {one["function"]["name"]: one["function"]["parameters"] for one in (WEATHER, CLOCK)}
    for choice in (named, "required"):
        found = ask(
            client, question, [CLOCK, WEATHER], tool_choice=choice, parallel_tool_calls=False, temperature=1.5
        ).choices[0]
        ((name, arguments),) = called(found.message)
        assert found.finish_reason == "tool_calls"
        assert choice == "required" or name == "get_weather"
        jsonschema.validate(arguments, schemas[name])
    none = ask(client, question, [CLOCK], tool_choice="none").choices[0]
    assert (none.finish_reason, none.message.tool_calls) == ("stop", None)


def test_a_call_keeps_to_a_schema_that_the_model_would_break(client: openai.OpenAI) -> None:
    free = ask(client, asked(TOO_BRIGHT), INTENTS, tool_choice="none").choices[0].message.content
    actions = read_actions(free)
    assert actions is not None
    assert actions[0]["value"] == 150
    kept = ask(client, asked(TOO_BRIGHT), INTENTS).choices[0].message
    ((name, arguments),) = called(kept)
    schema = next(one for one in INTENTS if one["function"]["name"] == name)["function"]["parameters"]
    jsonschema.validate(arguments, schema)
    assert 0 <= arguments["brightness"] <= 100


def test_what_cannot_be_used_is_an_error_of_each_api(client: openai.OpenAI, agent: ServingAgent) -> None:
    broken = tool("broken", {"x": {"type": "string", "pattern": "(?<=a)b"}})
    with pytest.raises(openai.BadRequestError, match="`tool_choice` names 'x'") as caught:
        ask(client, asked("hi"), INTENTS, tool_choice={"type": "function", "function": {"name": "x"}})
    assert caught.value.param == "tool_choice"
    with pytest.raises(openai.BadRequestError, match="grammar"):
        ask(client, asked("hi"), [broken])
    with pytest.raises(ollama.ResponseError, match=r"`tools\[0\].function.name`") as refused:
        ollama.Client(host=agent.url)._request_raw(  # pyright: ignore[reportPrivateUsage]
            "POST",
            "/api/chat",
            json={"model": "hybrid-lm", "messages": asked("x"), "tools": [{"function": {}}]},
        )
    assert refused.value.status_code == 400


def test_python_has_the_calls_and_the_text() -> None:
    async def run() -> None:
        async with EdgeAgent.open(AgentConfig(scheme="slm", temperature=0.0)) as agent:
            generation = agent.generate(asked(COMMAND), tools=INTENTS)
            async for _ in generation:
                pass
            assert [(call.name, call.arguments) for call in generation.calls] == CALLED
            assert generation.content == ""
            assert generation.text.startswith('[{"device":"light"')
            plain = agent.generate("hello", tools=INTENTS, tool_choice="none")
            async for _ in plain:
                pass
            assert (plain.calls, plain.content) == ([], plain.text)
            with pytest.raises(PromptError, match="`raw`"):
                agent.generate("hello", tools=INTENTS, raw=True)
            with pytest.raises(GrammarError):
                agent.generate("x", tools=[tool("broken", {"x": {"type": "string", "pattern": "(?<=a)b"}})])

    asyncio.run(run())
