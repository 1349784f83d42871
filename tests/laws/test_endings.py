"""Where a text ends: a function of its tokens, not of windows, blocks, answers or their order."""

from typing import Unpack

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.session.tally import Tally
from edge_agent.session.transcript import Fate
from tests.support.circle import Chosen, Circle

HOLDING = ["hlm", "lossless", "coupled"]
DRAFTING = [*HOLDING, "rand-hlm", "u-hlm", "cu-hlm-online", "opportunistic", "slm"]


def stopped_at(tokens: list[int], **chosen: Unpack[Chosen]) -> Circle:
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
        for window, block in [(2, 4), (8, 4), (2, 1), (3, 8), (4, None)]
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
