"""What clients send: every field is honoured, ignored or refused by its name; nothing breaks a parser."""

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.protocol.grammar import Grammar
from edge_agent.config import MAX_TOKENS, AgentConfig
from edge_agent.errors import ConfigError
from edge_agent.http.api_errors import ApiError
from edge_agent.http.ollama import request as ollama_request
from edge_agent.http.openai import request as openai_request
from edge_agent.http.requests.asked import Asked
from edge_agent.http.requests.fields import parse_object
from edge_agent.http.requests.options import LEAST_TOP_P
from edge_agent.options import configured

SERVED = "hybrid-lm"
ASK: dict[str, Any] = {"messages": [{"role": "user", "content": "hello"}]}


def chat(**fields: Any) -> Asked:
    return openai_request.chat({**ASK, **fields}, SERVED)


def refused(parse: Any, body: dict[str, Any]) -> ApiError:
    with pytest.raises(ApiError) as caught:
        parse(body, SERVED)
    return caught.value


def strictly(schema: Any, **more: Any) -> dict[str, Any]:
    """The fields that ask for a schema, as OpenAI's client sends them."""
    described = {"name": "action", "strict": True, "schema": schema, **more}
    return {"response_format": {"type": "json_schema", "json_schema": described}}


def test_options_are_those_of_the_settings() -> None:
    asked = chat(
        temperature=0.5,
        top_p=0.9,
        top_k=40,
        min_p=0.1,
        presence_penalty=1,
        repeat_penalty=1.2,
        seed=3,
        stop="end",
        max_completion_tokens=7,
        hybrid_lm={"scheme": "opportunistic", "risk": 0.01, "on_cloud_loss": "local"},
    )
    config = configured(AgentConfig(), asked.options)
    assert (config.temperature, config.top_p, config.top_k, config.min_p) == (0.5, 0.9, 40, 0.1)
    assert (config.presence_penalty, config.repetition_penalty) == (1, 1.2)
    assert (config.stop, config.max_tokens) == (("end",), 7)
    assert (config.scheme, config.risk, config.on_cloud_loss) == ("opportunistic", 0.01, "local")
    assert asked.options.get("seed") == 3


@pytest.mark.parametrize(
    ("field", "given", "option", "expected"),
    [
        ("max_tokens", -1, "max_tokens", MAX_TOKENS),
        ("max_tokens", 100_000, "max_tokens", MAX_TOKENS),
        ("max_tokens", 3.0, "max_tokens", 3),
        ("seed", -1, "seed", None),
        ("top_p", 0, "top_p", LEAST_TOP_P),
        ("top_k", -1, "top_k", 0),
        ("stop", ["a", ""], "stop", ["a"]),
        ("temperature", None, "temperature", None),
    ],
)
def test_what_other_servers_take_is_taken(field: str, given: Any, option: str, expected: Any) -> None:
    options: Any = chat(**{field: given}).options
    assert options[option] == expected


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": "hello"}, "messages"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages[0].content"),
        ({"temperature": "hot"}, "temperature"),
        ({"temperature": True}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": 1.5}, "max_tokens"),
        ({"seed": 2**64}, "seed"),
        ({"stop": [1]}, "stop"),
        ({"stop": ["a"] * 17}, "stop"),
        ({"stream": "yes"}, "stream"),
        ({"stream_options": []}, "stream_options"),
        ({"n": 2}, "n"),
        ({"logit_bias": {"1": 5}}, "logit_bias"),
        ({"logprobs": True}, "logprobs"),
        ({"audio": {"voice": "x"}}, "audio"),
        ({"response_format": "json"}, "response_format"),
        ({"response_format": {"type": "xml"}}, "response_format.type"),
        ({"response_format": {"schema": {}}}, "response_format.type"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema.schema"),
        ({"response_format": {"type": "json_schema", "json_schema": []}}, "response_format.json_schema"),
        (strictly({}, name=3), "response_format.json_schema.name"),
        (strictly({}, name="n" * 65), "response_format.json_schema.name"),
        (strictly({}, strict="yes"), "response_format.json_schema.strict"),
        (strictly("{}"), "response_format.json_schema.schema"),
        (strictly({"const": float("nan")}), "response_format.json_schema.schema"),
        (strictly({"const": "\ud800"}), "response_format.json_schema.schema"),
        (strictly({"const": "x" * 65536}), "response_format.json_schema.schema"),
        ({"grammar": 1}, "grammar"),
        ({"grammar": {"kind": "gbnf", "source": "x"}}, "grammar.kind"),
        ({"grammar": {"kind": "lark"}}, "grammar.source"),
        ({"grammar": {"kind": "lark", "source": {}}}, "grammar.source"),
        ({"regex": ["a"]}, "regex"),
        ({"regex": "a", "grammar": "start: /a/"}, "regex"),
        ({"regex": "a", "response_format": {"type": "json_object"}}, "regex"),
        ({"guided_json": {"type": "object"}}, "guided_json"),
        ({"structured_outputs": {"regex": "a"}}, "structured_outputs"),
        ({"tools": "x"}, "tools"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tool_choice": {"type": "function"}}, "tool_choice"),
        ({"hybrid_lm": {"shceme": "slm"}}, "hybrid_lm.shceme"),
        ({"model": "gpt-4"}, "model"),
        ({"model": "hybrid-lm@none"}, "model"),
        ({"model": "hybrid-lm@slm", "hybrid_lm": {"scheme": "hlm"}}, "model"),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_its_name(fields: dict[str, Any], param: str) -> None:
    error = refused(openai_request.chat, {**ASK, **fields})
    assert error.param == param
    assert error.status == (404 if "robot" not in str(fields) and error.code == "model_not_found" else 400)
    assert "\n" not in error.message


SCHEMA = {"type": "object", "properties": {"z": {"type": "integer"}, "a": {"type": "string"}}}


@pytest.mark.parametrize(
    ("fields", "grammar"),
    [
        ({"response_format": {"type": "text"}}, None),
        ({"response_format": None, "grammar": "", "regex": None}, None),
        ({"response_format": {"type": "json_object"}}, Grammar.json_schema({"type": "object"})),
        ({"response_format": {"type": "json_object", "schema": SCHEMA}}, Grammar.json_schema(SCHEMA)),
        (strictly(SCHEMA), Grammar.json_schema(SCHEMA)),
        (strictly(SCHEMA, strict=False, description="x"), Grammar.json_schema(SCHEMA)),
        (strictly(True), Grammar.json_schema(True)),
        ({"json_schema": SCHEMA}, Grammar.json_schema(SCHEMA)),
        ({"grammar": "start: /a+/"}, Grammar.lark("start: /a+/")),
        ({"grammar": {"kind": "regex", "source": "a+"}}, Grammar.regex("a+")),
        ({"grammar": {"kind": "json_schema", "source": SCHEMA}}, Grammar.json_schema(SCHEMA)),
        ({"regex": "a+", "response_format": {"type": "text"}}, Grammar.regex("a+")),
    ],
)
def test_a_form_of_the_answer_is_a_grammar(fields: dict[str, Any], grammar: Grammar | None) -> None:
    asked = chat(**fields)
    assert asked.options.get("grammar") == grammar
    assert asked.format_field == (None if grammar is None else next(iter(fields)))
    completed = openai_request.completion({"prompt": "x", **fields}, SERVED)
    assert completed.options.get("grammar") == grammar


def test_a_schema_keeps_the_order_of_its_properties() -> None:
    grammar = chat(**strictly(SCHEMA)).options.get("grammar")
    assert grammar is not None
    assert grammar.source.index('"z"') < grammar.source.index('"a"')


@pytest.mark.parametrize(
    ("form", "grammar"),
    [
        ("", None),
        (None, None),
        ("json", Grammar.json_schema({"type": "object"})),
        (SCHEMA, Grammar.json_schema(SCHEMA)),
        ({}, Grammar.json_schema({})),
    ],
)
def test_ollamas_format_is_json_or_a_schema(form: object, grammar: Grammar | None) -> None:
    chatted = ollama_request.chat({**ASK, "format": form}, SERVED)
    generated = ollama_request.generate({"prompt": "hi", "format": form}, SERVED)
    assert [one.options.get("grammar") for one in (chatted, generated) if one] == [grammar, grammar]


@pytest.mark.parametrize("form", ["xml", 3, True, [], {"const": float("inf")}])
def test_another_format_is_refused_by_its_name(form: object) -> None:
    assert refused(ollama_request.chat, {**ASK, "format": form}).param == "format"


@pytest.mark.parametrize(
    "fields",
    [
        {"n": 1},
        {"logit_bias": {}},
        {"logprobs": False},
        {"response_format": {"type": "text"}},
        {
            "tools": [{"type": "function", "function": {"name": "f"}}],
            "tool_choice": "auto",
            "parallel_tool_calls": True,
        },
        {"user": "me", "metadata": {"a": 1}, "store": True, "something_new": [1, 2]},
        {"hybrid_lm": None},
        {"model": ""},
    ],
)
def test_what_changes_nothing_is_accepted(fields: dict[str, Any]) -> None:
    assert chat(**fields).prompt


def test_messages_reach_the_template_as_texts() -> None:
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
    messages = [
        {"role": "developer", "content": "be brief"},
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "content": "done", "tool_call_id": "1", "secret": "x"},
    ]
    called = {**call, "function": {"name": "f", "arguments": {"a": 1}}}
    assert chat(messages=messages).prompt == [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "ab"},
        {"role": "assistant", "content": "", "tool_calls": [called]},
        {"role": "tool", "content": "done", "tool_call_id": "1"},
    ]


def test_ollamas_requests_stream_unless_told_otherwise() -> None:
    body = {"model": "hybrid-lm:latest", "messages": [{"role": "user", "content": "hi"}]}
    options = {"num_predict": -1, "seed": 4, "repeat_penalty": 1.1, "num_ctx": 8192}
    asked = ollama_request.chat({**body, "options": options, "keep_alive": "-1.0s", "think": False}, SERVED)
    assert asked is not None
    assert asked.streams
    assert asked.options.get("max_tokens") == MAX_TOKENS
    assert asked.options.get("repetition_penalty") == 1.1
    whole = ollama_request.generate({"model": SERVED, "prompt": "hi", "system": "s", "stream": False}, SERVED)
    assert whole is not None
    assert not whole.streams
    assert [one["role"] for one in whole.prompt if not isinstance(one, str)] == ["system", "user"]
    assert ollama_request.generate({"model": SERVED}, SERVED) is None


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
ANYTHING = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
NAMES = st.sampled_from(
    [
        *("messages", "prompt", "model", "stream", "stream_options", "max_tokens", "temperature", "top_p"),
        *("top_k", "stop", "seed", "tools", "tool_choice", "hybrid_lm", "response_format", "n", "options"),
        *("system", "raw", "format", "chat_template_kwargs", "logit_bias", "audio", "grammar", "regex"),
    ]
)
MESSAGES = st.lists(
    st.dictionaries(
        st.sampled_from(["role", "content", "tool_calls", "name", "images"]), ANYTHING, max_size=4
    ),
    max_size=2,
)


@given(st.dictionaries(NAMES, ANYTHING, max_size=5), MESSAGES | st.just(ASK["messages"]))
def test_no_body_breaks_a_parser(body: dict[str, Any], messages: list[Any]) -> None:
    for parse in (
        openai_request.chat,
        openai_request.completion,
        ollama_request.chat,
        ollama_request.generate,
    ):
        with suppress(ApiError, ConfigError):  # what is refused is refused with one of these
            asked = parse({**body, "messages": messages}, SERVED)
            if asked is not None:
                configured(AgentConfig(), asked.options)


@given(
    st.binary(max_size=40)
    | st.text(max_size=40).map(str.encode)
    | ANYTHING.map(lambda one: json.dumps(one).encode())
)
def test_no_bytes_break_the_reader(body: bytes) -> None:
    with suppress(ApiError):
        parse_object(body)


@pytest.mark.parametrize("body", [b"[" * 100_000, b'{"a":' * 50_000, b"1" * 5000, b'"\\ud800"', b"\xff", b""])
def test_hostile_json_is_a_clear_error(body: bytes) -> None:
    with pytest.raises(ApiError, match="JSON"):
        parse_object(body)
