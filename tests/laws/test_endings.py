"""Where a text ends: a function of its tokens, not of windows, blocks, answers or their order."""

from typing import Unpack

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.protocol.messages import Correction, Draft, Reason, Refusal
from edge_agent.session.tally import Tally
from edge_agent.session.transcript import Fate
from tests.support.circle import PROMPT, Chosen, Circle
from tests.support.narrowing import expect, present

HOLDING = ["hlm", "lossless", "coupled", "auto"]
DRAFTING = [*HOLDING, "rand-hlm", "u-hlm", "cu-hlm-online", "opportunistic", "slm"]


def stopped_at(tokens: list[int], /, **chosen: Unpack[Chosen]) -> Circle:
    chosen["stop"] = tuple(tokens)
    circle = Circle(**chosen)
    circle.settle()
    return circle


def counts(tally: Tally) -> tuple[dict[Fate, int], int, int, int, float]:
    return (
        tally.num_by_fate,
        tally.num_tested,
        tally.num_accepted,
        tally.num_measured,
        tally.measured_risk_sum,
    )


def first_end(text: list[int], stop: list[int]) -> int | None:
    return next((end for end in range(1, len(text) + 1) if text[:end][-len(stop) :] == stop), None)


@pytest.mark.parametrize("scheme", DRAFTING)
@given(seed=st.integers(0, 500), length=st.integers(1, 3), place=st.integers(0, 23))
@settings(max_examples=15)
def test_a_stop_string_ends_the_text_at_its_token_and_counts_nothing_after_it(
    scheme: str, seed: int, length: int, place: int
) -> None:
    free = Circle(scheme=scheme, seed=seed)
    free.settle()
    stop = free.text[max(0, place + 1 - length) : place + 1]
    end = first_end(free.text, stop)
    ends = [
        stopped_at(stop, scheme=scheme, seed=seed, window=window, block_length=block)
        for window, block in [(2, 4), (8, 4), (2, 1), (3, 8), (4, None), (None, None)]
    ]
    for circle in ends:
        assert circle.text == free.text[:end]
        assert circle.edge.finish_reason == "stop"
        assert circle.edge.tally.num_tokens == end
        assert counts(circle.edge.tally) == counts(ends[0].edge.tally)
        assert len(circle.edge.tokens) == 4 + len(circle.text)


@pytest.mark.parametrize("scheme", [*DRAFTING, "llm"])
def test_a_stop_string_that_is_complete_in_the_last_allowed_token_is_a_stop(scheme: str) -> None:
    free = Circle(scheme=scheme)
    free.settle()
    assert free.edge.finish_reason == "length"
    last = free.text[-3:]
    end = first_end(free.text, last)
    for at_end in (False, True):
        circle = stopped_at(last, stops_at_end=at_end, scheme=scheme, max_tokens=24)
        assert circle.edge.finish_reason == "stop"
        assert circle.text == (free.text if at_end else free.text[:end])


@pytest.mark.parametrize("scheme", [*DRAFTING, "llm"])
@pytest.mark.parametrize("window", [1, 4])
def test_nothing_follows_a_stop_string_that_an_end_token_follows(scheme: str, window: int) -> None:
    free = Circle(scheme=scheme)
    free.settle()
    ends = frozenset([free.text[8]])
    first = free.text.index(free.text[8])
    if first == 0:
        return
    stop = free.text[first - 1 : first]
    circle = stopped_at(stop, scheme=scheme, window=window, stop_ids=ends)
    end = first_end(free.text, stop)
    assert circle.text == free.text[:end]
    assert circle.edge.finish_reason == "stop"


WINDOWS: list[tuple[int | None, int | None]] = [
    *((1, 4), (2, 4), (8, 4), (1, 1), (3, 8), (1, None), (4, None), (None, None))
]


@pytest.mark.parametrize("scheme", [*HOLDING, "llm"])
@pytest.mark.parametrize("limit", [5, 6, 15, 27, 28, 29])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_the_workers_limit_ends_a_text_where_the_draft_models_own_limit_does(
    scheme: str, limit: int, temperature: float
) -> None:
    own = Circle(scheme=scheme, temperature=temperature, max_positions=limit)
    own.settle()
    assert len(own.text) == min(24, limit - 4)
    for window, block in WINDOWS:
        circle = Circle(
            scheme=scheme, temperature=temperature, worker_limit=limit, window=window, block_length=block
        )
        circle.settle()
        assert circle.edge.failure is None
        assert (circle.text, circle.edge.finish_reason) == (own.text, "length")
        assert circle.edge.tally.num_tokens == len(own.text)


@pytest.mark.parametrize("scheme", ["rand-hlm", "u-hlm", "cu-hlm-online", "opportunistic"])
@given(seed=st.integers(0, 500), limit=st.integers(5, 27))
@settings(max_examples=15)
def test_a_scheme_that_skips_ends_at_the_first_draft_that_the_worker_cannot_take(
    scheme: str, seed: int, limit: int
) -> None:
    free = Circle(scheme=scheme, seed=seed)
    free.settle()
    ends: list[Circle] = []
    for window, block in WINDOWS:
        ends.append(Circle(scheme=scheme, seed=seed, worker_limit=limit, window=window, block_length=block))
        ends[-1].settle()
    for circle in ends:
        assert circle.edge.failure is None
        assert circle.edge.finish_reason == "length"
        assert circle.text == ends[0].text == free.text[: len(circle.text)]
        assert len(circle.text) >= limit - 4


def test_the_end_of_room_of_a_stream_is_told_with_its_last_token() -> None:
    circle = Circle(scheme="llm", worker_limit=10)
    began = circle.now
    circle.settle()
    assert (len(circle.text), circle.now) == (6, began)


@pytest.mark.parametrize("more", [1, 2])
def test_the_end_of_room_of_a_stream_ends_nothing_while_tokens_before_it_are_missing(more: int) -> None:
    circle = Circle(scheme="llm", worker_limit=10)
    circle.advance(Correction(0, 0, 7, "w0"))
    circle.advance(Refusal(0, Reason.TOO_LONG, "w0", "no room", have=len(PROMPT) + 1 + more))
    assert circle.edge.tally.num_ignored == 1
    circle.advance(Correction(0, 0, 8, "w0", index=1))
    assert circle.text == [7, 8]
    assert circle.edge.worker == "w0"


def test_only_the_first_token_of_a_stream_tells_how_long_an_answer_takes() -> None:
    circle = Circle(scheme="llm")
    circle.advance(Correction(0, 0, 7, "w0"))
    before = circle.edge.round_trip.smoothed
    circle.pass_time(0.3)
    circle.advance(Correction(0, 0, 8, "w0", index=1))
    assert circle.text == [7, 8]
    assert circle.edge.round_trip.smoothed == before


@pytest.mark.parametrize("scheme", [*DRAFTING[:-1], "llm"])
def test_a_prompt_that_leaves_no_room_at_the_worker_is_an_error(scheme: str) -> None:
    circle = Circle(scheme=scheme, worker_limit=4)
    circle.settle()
    assert "accepts at most 4" in present(circle.edge.failure)
    assert "shorten the prompt" in present(circle.edge.failure)


def test_workers_that_contradict_themselves_about_their_limit_end_the_text_with_an_error() -> None:
    circle = Circle()
    while not circle.to_workers:
        circle.draft()
    for name in ("w0", "w1"):
        circle.advance(Refusal(0, Reason.TOO_LONG, name, "no room", have=500))
        circle.pass_time(1.0)
    assert "no room" in present(circle.edge.failure)


def test_a_worker_that_does_not_state_its_limit_ends_the_text_before_the_refused_draft() -> None:
    circle = Circle(window=1, temperature=1.0)
    while len(circle.final) < 8:
        circle.draft()
        circle.exchange()
    text = list(circle.text)
    while not circle.to_workers:
        circle.draft()
    circle.advance(Refusal(expect(Draft, circle.to_workers[-1].message).n, Reason.TOO_LONG, "w0"))
    assert (circle.edge.finish_reason, circle.edge.failure, circle.text) == ("length", None, text)
