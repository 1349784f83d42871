"""How long to wait for an answer: RFC 6298, with numbers computed by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.session.round_trip import RoundTrip
from tests.support.narrowing import present

seconds = st.floats(0.0, 1e4)


def estimator(*observed: float) -> RoundTrip:
    round_trip = RoundTrip(first_timeout=5.0, min_timeout=0.5, max_timeout=20.0)
    for each in observed:
        round_trip.observe(each)
    return round_trip


def test_before_any_answer_the_first_timeout_counts() -> None:
    assert estimator().timeout(1, whole_context=False) == 5.0


def test_the_first_answer_sets_the_mean_and_half_of_it_as_variation() -> None:
    round_trip = estimator(0.4)
    assert (round_trip.smoothed, round_trip.variation) == (0.4, 0.2)
    assert round_trip.timeout(1, whole_context=False) == pytest.approx(0.4 + 4 * 0.2)


def test_a_later_answer_moves_the_mean_by_an_eighth_and_the_variation_by_a_quarter() -> None:
    round_trip = estimator(0.4, 1.2)
    assert round_trip.variation == pytest.approx(0.75 * 0.2 + 0.25 * 0.8)
    assert round_trip.smoothed == pytest.approx(0.4 + 0.8 / 8)


def test_steady_answers_bring_the_timeout_down_to_the_least() -> None:
    assert estimator(*[0.01] * 100).timeout(1, whole_context=False) == 0.5


def test_on_a_long_and_steady_line_an_answer_may_come_half_a_round_trip_late() -> None:
    assert estimator(*[1.0] * 100).timeout(1, whole_context=False) == pytest.approx(1.5)


def test_the_timeout_doubles_with_every_try_up_to_the_most() -> None:
    timeouts = [estimator(0.4).timeout(tries, whole_context=False) for tries in range(1, 8)]
    assert timeouts == pytest.approx([1.2, 2.4, 4.8, 9.6, 19.2, 20.0, 20.0])


def test_a_whole_context_gets_at_least_the_first_timeout() -> None:
    assert estimator(*[0.01] * 100).timeout(1, whole_context=True) == 5.0
    assert estimator(*[3.0] * 100).timeout(1, whole_context=True) == 5.0
    assert estimator(4.0).timeout(1, whole_context=True) == pytest.approx(12.0)


@given(st.lists(seconds, max_size=30), st.integers(1, 10_000), st.booleans())
def test_a_timeout_always_lies_between_the_least_and_the_most(
    observed: list[float], tries: int, whole: bool
) -> None:
    assert 0.5 <= estimator(*observed).timeout(tries, whole_context=whole) <= 20.0


@given(st.lists(seconds, min_size=1, max_size=30))
def test_the_mean_stays_among_the_observed(observed: list[float]) -> None:
    smoothed = present(estimator(*observed).smoothed)
    assert min(observed) - 1e-9 <= smoothed <= max(observed) + 1e-9


def test_after_a_repeat_timeouts_stay_doubled_until_a_message_is_answered_at_once() -> None:
    round_trip = estimator(0.4)
    round_trip.back_off()
    round_trip.back_off()
    assert round_trip.timeout(1, whole_context=False) == pytest.approx(4 * 1.2)
    assert round_trip.timeout(2, whole_context=False) == pytest.approx(2 * 1.2)
    round_trip.observe(0.4)
    assert round_trip.timeout(1, whole_context=False) == pytest.approx(0.4 + 4 * 0.15)
