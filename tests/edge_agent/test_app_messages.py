"""The pure parts of the apps' topics: what bytes are read as, what is remembered, kept and refused."""

import itertools
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.protocol.limits import MAX_APP_PAYLOAD_BYTES
from common.protocol.topics import FROM_APPS, TO_APPS, Topics
from edge_agent.app_topics.answered import MAX_BYTES, SECONDS, Answered
from edge_agent.app_topics.asks import Ask, parse_ask
from edge_agent.app_topics.json_objects import MAX_DEPTH, read_object_or_text, write
from edge_agent.app_topics.messages import answer
from edge_agent.app_topics.outbox import MAX_ANSWERS, MAX_NOTES, Kind, Outbox, Outgoing
from edge_agent.app_topics.outbox import MAX_BYTES as MAX_KEPT
from edge_agent.app_topics.refusal import EchoError, RefusalError
from edge_agent.app_topics.refusal_rate import RefusalRate
from edge_agent.app_topics.settings import parse_cancel, parse_set
from edge_agent.app_topics.token_batches import INTERVAL, TokenBatches
from edge_agent.home_assistant.discovery import Described, description
from edge_agent.policy.schemes import SCHEMES
from edge_agent.session.transcript import Fate

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=10,
)
NAMES = st.sampled_from(
    [
        *("id", "prompt", "messages", "stream", "seed", "stop", "temperature", "scheme", "risk"),
        *("format", "grammar", "regex"),
    ]
)


# -- reading -------------------------------------------------------------------------------------------


@given(st.binary(max_size=200) | PLAIN.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_are_an_object_a_text_or_a_refusal(payload: bytes) -> None:
    try:
        found = read_object_or_text(payload)
    except RefusalError:
        return
    if isinstance(found, str):
        found.encode()
    else:
        assert json.loads(write(found)) == found


@given(st.dictionaries(NAMES, PLAIN, max_size=5))
def test_any_object_is_an_ask_of_the_right_types_or_a_refusal(fields: dict[str, Any]) -> None:
    payload = json.dumps(fields).encode()
    parse_cancel(payload)
    for parse in (parse_ask, parse_set):
        found = outcome(parse, payload)
        if isinstance(found, str):
            assert "\n" not in found
            assert len(found) < 300
        elif isinstance(found, Ask):
            assert isinstance(found.prompt, str) or all(
                {type(one["role"]), type(one["content"])} == {str} for one in found.prompt
            )
            assert isinstance(found.options.get("seed", 0), int)
            assert isinstance(found.options.get("temperature", 0.0), int | float)
            assert None not in found.options.values()


def outcome(parse: Callable[[bytes], object], payload: bytes) -> object:
    """What was read, or the reason why it was not."""
    try:
        return parse(payload)
    except RefusalError as error:
        return str(error)


@pytest.mark.parametrize(
    ("payload", "prompt"),
    [
        (b"turn on the light", "turn on the light"),
        (b'"mach \\"Licht\\" an"', 'mach "Licht" an'),
        ("Küche".encode(), "Küche"),
        (b"42", "42"),
        (b"null", "null"),
        (b"NaN", "NaN"),
        (b"1e999", "1e999"),
        (b"[laughs] hello", "[laughs] hello"),
        (b'"\\ud800"', '"\\ud800"'),
        (b'{"prompt": "x", "unknown": [1]}', "x"),
    ],
)
def test_what_is_no_json_object_is_a_prompt(payload: bytes, prompt: str) -> None:
    assert parse_ask(payload) == Ask(prompt)


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"", "is empty"),
        (b"\t\n", "is empty"),
        (b'{"prompt": " "}', "is empty"),
        (b"\xff", "not UTF-8"),
        (b"x" * (MAX_APP_PAYLOAD_BYTES + 1), "longer than 65,536 bytes"),
        (b'{"prompt": "x"', "cannot be read"),
        (b"[1]", "JSON array"),
        (b"[" * 50_000, "nested too deeply"),
        (
            json.dumps({"prompt": "x", "a": [[[[[[[[[0]]]]]]]]] * 2})
            .replace("[0]", "[" * 30 + "]" * 30)
            .encode(),
            "levels",
        ),
        (b'{"prompt": "x", "a": Infinity}', "Infinity"),
        (b'{"prompt": "x", "a": -1e400}', "too large"),
        (b'{"prompt": "x", "a": 123456789012345678901234567890}', "too large"),
        (b'{"prompt": "x", "stream": true}', "needs an 'id'"),
        (b'{"prompt": "x", "stream": true, "id": "a/b"}', "part of a topic"),
        (b'{"prompt": "x", "stream": true, "id": "+"}', "part of a topic"),
        (b'{"prompt": "x", "stream": true, "id": -1}', None),
        (b'{"prompt": "x", "stream": 1, "id": "a"}', "true or false"),
        (b'{"prompt": "x", "id": 1.5}', "'id' must be"),
        (b'{"prompt": "x", "id": ""}', "1 to 128"),
        (b'{"prompt": "x", "seed": 1.5}', "whole number"),
        (b'{"prompt": "x", "response_format": {"type": "json_object"}}', "not supported: use 'format'"),
        (b'{"prompt": "x", "format": "xml"}', "'format' must be \"json\" or a JSON schema"),
        (b'{"prompt": "x", "format": true}', "a JSON schema"),
        (b'{"prompt": "x", "regex": 1}', "'regex' must be a text"),
        (b'{"prompt": "x", "grammar": {"kind": "gbnf"}}', "'grammar.kind' must be one of json_schema"),
        (b'{"prompt": "x", "format": "json", "regex": "a"}', "give only one of 'format' and 'regex'"),
        (b'{"prompt": "x", "messages": [{"role": "user", "content": "y"}]}', "either"),
        (b'{"messages": [{"role": "user", "content": ["y"]}]}', "'role' and 'content'"),
    ],
)
def test_what_cannot_be_an_ask_is_refused_with_the_reason(payload: bytes, reason: str | None) -> None:
    if reason is None:
        parse_ask(payload)
        return
    with pytest.raises(RefusalError, match=reason):
        parse_ask(payload)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"a": [1, null]}', {"a": [1, None]}),
        ('{"a": [1', None),
        ("1e999", None),
        ("NaN", None),
        ("1" * 5000, None),
        ("[" * 100 + "]" * 100, None),
        ('"\\ud800"', None),
    ],
)
def test_an_answer_in_json_is_parsed_unless_it_is_cut_off(text: str, value: object) -> None:
    message = answer(
        "a", text, None, {**dict.fromkeys(REPORT), "num_by_fate": {}, "seconds": 1.0}, is_json=True
    )
    assert message["json"] == value
    write(message)


REPORT = (
    *("finish_reason", "num_tokens", "num_uplinks", "bytes_up", "bytes_down", "measured_risk", "worker"),
    *("scheme", "seed"),
)


def test_a_refusal_has_the_id_where_it_could_be_read() -> None:
    with pytest.raises(RefusalError) as caught:
        parse_ask(b'{"id": "a1", "prompt": 1}')
    assert caught.value.id == "a1"


def test_a_message_of_the_agent_is_known_as_such() -> None:
    for own in (
        {"event_type": "refused", "error": "x"},
        {"id": 1, "text": "", "finish_reason": "stop"},
        {"busy": True},
    ):
        with pytest.raises(EchoError):
            parse_ask(json.dumps(own).encode())
    assert parse_ask(b'{"prompt": "x", "finish_reason": "stop"}').prompt == "x"


def test_the_depth_that_is_allowed_is_allowed() -> None:
    deep: Any = "x"
    for _ in range(MAX_DEPTH - 1):
        deep = [deep]
    assert read_object_or_text(json.dumps({"a": deep}).encode()) == {"a": deep}
    with pytest.raises(RefusalError):
        read_object_or_text(json.dumps({"a": [deep]}).encode())


def test_a_risk_chooses_the_scheme_that_keeps_it() -> None:
    assert parse_set(b'{"risk": 0.005}') == {"risk": 0.005, "scheme": "opportunistic"}
    assert parse_set(b'{"risk": null}') == {"risk": None}
    assert parse_set(b'{"scheme": "hlm"}') == {"scheme": "hlm"}


# -- remembering ---------------------------------------------------------------------------------------


def test_an_answer_is_remembered_for_a_minute() -> None:
    answered = Answered()
    answered.add("k", b"answer", "text", 0, now=0.0)
    assert answered.find("k", SECONDS - 0.1) == b"answer"
    assert answered.find("k", SECONDS) is None
    assert len(answered) == 0


@given(st.lists(st.tuples(st.integers(0, 300), st.integers(0, 100_000)), max_size=60))
def test_what_is_remembered_is_bounded(answers: list[tuple[int, int]]) -> None:
    answered = Answered(max_answers=16)
    for number, size in answers:
        answered.add(str(number), bytes(size), "", 0, now=0.0)
        assert len(answered) <= 16
        assert sum(len(answered.find(str(one), 0.0) or b"") for one in range(301)) <= MAX_BYTES


def test_echoes_are_counted_through_the_answers() -> None:
    answered = Answered()
    assert answered.num_echoes("hello", 0.0) == 0
    answered.add("1", b"", "hi", 0, now=0.0)
    assert answered.num_echoes(" hi\n", 1.0) == 1
    answered.add("2", b"", "hi there", 1, now=1.0)
    assert answered.num_echoes("hi there", 2.0) == 2
    assert answered.num_echoes("hi there", 100.0) == 0


# -- keeping and joining -------------------------------------------------------------------------------


def note(kind: Kind, number: int, size: int = 1) -> Outgoing:
    return Outgoing(kind, f"t/{number % 5}", bytes([number % 256]) * size)


@given(st.lists(st.tuples(st.sampled_from(Kind), st.integers(0, 30_000), st.booleans()), max_size=150))
def test_the_outbox_is_bounded_and_keeps_the_newest_answers(put: list[tuple[Kind, int, bool]]) -> None:
    outbox, answers = Outbox(), list[bytes]()
    for number, (kind, size, comes_back) in enumerate(put):
        message = note(kind, number, size)
        outbox.put(message, first=kind is Kind.RETAINED and comes_back)
        if kind is Kind.ANSWER:
            answers.append(message.payload)
        if comes_back and (taken := outbox.take()) is not None:
            outbox.put_back(taken)
    assert outbox.num_bytes <= 3 * MAX_KEPT
    assert len(outbox) <= MAX_ANSWERS + 2 * MAX_NOTES + 5
    outbox.drop_tokens()
    taken = [one for _ in range(len(outbox)) if (one := outbox.take()) is not None]
    kept = [one.payload for one in taken if one.kind is Kind.ANSWER]
    assert kept == answers[len(answers) - len(kept) :]
    assert len(kept) == len(answers) or len(kept) == MAX_ANSWERS or outbox.num_dropped > 0
    assert len({one.topic for one in taken if one.kind is Kind.RETAINED}) == sum(
        one.kind is Kind.RETAINED for one in taken
    )


def test_a_flood_of_refusals_drops_no_answer() -> None:
    outbox = Outbox()
    outbox.put(note(Kind.ANSWER, 1))
    for number in range(10 * MAX_NOTES):
        outbox.put(note(Kind.NOTE, number))
    assert outbox.take() == Outgoing(Kind.ANSWER, "t/1", b"\x01", number=1)


def test_of_a_retained_topic_only_the_last_is_sent_and_an_older_one_does_not_come_back() -> None:
    outbox = Outbox()
    outbox.put(Outgoing(Kind.RETAINED, "status", b"1"))
    first = outbox.take()
    assert first is not None
    outbox.put(Outgoing(Kind.RETAINED, "status", b"2"))
    outbox.put_back(first)
    second = outbox.take()
    assert second is not None
    assert (second.payload, outbox.take()) == (b"2", None)


@given(st.lists(st.tuples(st.text(max_size=4), st.sampled_from(Fate), st.floats(0, 0.3)), max_size=40))
def test_batches_have_every_token_in_order_and_are_not_too_many(
    tokens: list[tuple[str, Fate, float]],
) -> None:
    batches, now, sent, due = TokenBatches(), 0.0, list[tuple[float, dict[str, Any]]](), None
    for text, fate, pause in tokens:
        now += pause
        if due is not None and due <= now:
            sent.append((due, batches.take(due) or {}))
            due = None
        delay = batches.add(text, fate, now)
        due = now + delay if due is None else due
    if due is not None:
        sent.append((due, batches.take(due) or {}))
    assert batches.take(now) is None
    each = [(one["text"], one["fate"]) for _, batch in sent for one in batch["tokens"]]
    assert each == [(text, str(fate)) for text, fate, _ in tokens]
    assert [batch["n"] for _, batch in sent] == [
        sum(len(batch["tokens"]) for _, batch in sent[:at]) for at in range(len(sent))
    ]
    times = [at for at, _ in sent]
    assert all(later - earlier > INTERVAL - 1e-6 for earlier, later in itertools.pairwise(times))


def test_refusals_run_dry_and_come_back() -> None:
    rate = RefusalRate(burst=3, per_second=1)
    assert [rate.allows(10.0) for _ in range(5)] == [True, True, True, False, False]
    assert [rate.allows(11.0) for _ in range(2)] == [True, False]


# -- topics and Home Assistant -------------------------------------------------------------------------


@given(st.text(max_size=40) | st.from_regex(r"hlm/v1/app/kitchen/[a-z/+#]{0,12}", fullmatch=True))
def test_a_response_topic_is_below_the_device_and_no_topic_of_it(topic: str) -> None:
    topics = Topics()
    if topics.takes_reply("kitchen", topic):
        path = topics.parse_app(topic).path
        assert topic.startswith("hlm/v1/app/kitchen/")
        assert path == ("answer",) or path[0] not in (*FROM_APPS, *TO_APPS)


def test_replies_may_go_to_free_topics() -> None:
    paths = ("answer", "reply", "reply/x", "x/y", "ask", "answer/x", "token/x", "a/b/c", "", "x/#")
    allowed = [one for one in paths if Topics().takes_reply("kitchen", f"hlm/v1/app/kitchen/{one}")]
    assert allowed == ["answer", "reply", "reply/x", "x/y"]
    assert not Topics().takes_reply("kitchen", "hlm/v1/app/cellar/reply/x")


def test_the_description_names_each_entity_once_and_only_topics_of_the_device() -> None:
    found = description(Described("kitchen", "hybrid-lm", "1.0", list(SCHEMES)), Topics())
    entities: dict[str, dict[str, Any]] = found["cmps"]
    assert len({one["uniq_id"] for one in entities.values()}) == len(entities) == 15
    used = {value for one in entities.values() for key, value in one.items() if key.endswith("_t")}
    allowed = {f"hlm/v1/app/kitchen/{name}" for name in (*FROM_APPS, *TO_APPS)}
    assert used | {found["avty_t"]} <= allowed
    assert not any("kitchen" in one["name"].lower() for one in entities.values())
    assert entities["risk"]["step"] >= 0.001
    assert all("object_id" not in one and "obj_id" not in one for one in entities.values())
