"""The link as the agent learns it, and the gate that follows from it."""

# how many drafts it remembers shows only inside
# pyright: reportPrivateUsage=false

import numpy as np
import pytest

from edge_agent.policy.cheapest_k import DEFAULT_BYTE_PRICE
from edge_agent.policy.rejection_fit import Fit
from edge_agent.session.pacing import Experience, Pacing
from edge_agent.session.tally import Tally
from edge_agent.tuning.link_estimate import MAX_PENDING, LinkEstimate
from edge_agent.tuning.risk_control import RiskControl, RiskCurve
from edge_agent.tuning.tuner import PROBE_AFTER, Tuner
from tests.support.narrowing import present

ROUND_TRIP, BYTE_TIME, VERIFY = 0.04, 1e-5, 0.02


def learnt(sizes: list[int], *, noise: float = 0.0, byte_time: float = BYTE_TIME) -> LinkEstimate:
    rng = np.random.default_rng(1)
    estimate = LinkEstimate()
    for n, size in enumerate(sizes):
        estimate.sent(n, size, now=float(n))
        seconds = ROUND_TRIP + byte_time * size + VERIFY + noise * rng.normal()
        estimate.answered(n, VERIFY, now=n + seconds)
    return estimate


def test_the_parts_of_a_round_trip_are_told_apart() -> None:
    times = present(learnt([50, 400, 120, 2000, 90] * 10).times)
    assert times.round_trip == pytest.approx(ROUND_TRIP)
    assert times.seconds_per_byte == pytest.approx(BYTE_TIME)
    assert times.verification == pytest.approx(VERIFY)
    assert times.asking == pytest.approx(ROUND_TRIP + BYTE_TIME * times.num_bytes + VERIFY)


def test_noise_is_averaged_away() -> None:
    times = present(learnt([50, 400, 120, 2000, 90] * 60, noise=0.002).times)
    assert times.round_trip == pytest.approx(ROUND_TRIP, rel=0.1)
    assert times.seconds_per_byte == pytest.approx(BYTE_TIME, rel=0.2)


def test_a_link_that_changes_is_followed() -> None:
    estimate = learnt([50, 400, 120, 2000, 90] * 10)
    for n in range(1000, 1300):
        size = 50 + 37 * (n % 50)
        estimate.sent(n, size, now=float(n))
        estimate.answered(n, 0.0, now=n + 0.2 + 1e-4 * size)
    assert present(estimate.times).round_trip == pytest.approx(0.2, rel=0.05)
    assert present(estimate.times).seconds_per_byte == pytest.approx(1e-4, rel=0.05)


def test_drafts_of_one_size_tell_nothing_about_the_rate() -> None:
    times = present(learnt([100] * 20).times)
    assert times.seconds_per_byte == 0.0
    assert times.round_trip == pytest.approx(ROUND_TRIP + BYTE_TIME * 100)


def test_longer_drafts_that_happen_to_be_faster_give_no_negative_rate() -> None:
    times = present(learnt([50, 400, 120, 2000, 90] * 10, byte_time=-1e-5).times)
    assert times.seconds_per_byte == 0.0


def test_a_repeated_draft_tells_nothing() -> None:
    estimate = LinkEstimate()
    for n in range(10):
        estimate.sent(n, 100, now=0.0)
        estimate.sent(n, 100, now=5.0)
        estimate.answered(n, 0.0, now=5.1)
    assert estimate.times is None


def test_an_answer_to_nothing_is_ignored_and_forgotten_drafts_do_not_pile_up() -> None:
    estimate = LinkEstimate()
    estimate.answered("unknown", 0.0, now=1.0)
    for n in range(10 * MAX_PENDING):
        estimate.sent(n, 100, now=0.0)
    assert len(estimate._pending) == MAX_PENDING
    estimate.answered(0, 0.0, now=1.0)
    assert estimate._num_drafts == 0  # the oldest are forgotten
    estimate.answered(10 * MAX_PENDING - 1, 0.0, now=1.0)
    assert estimate._num_drafts == 1


def test_the_estimates_begin_with_the_fourth_answer() -> None:
    assert [learnt([50, 400, 120, 2000, 90][:count]).times is None for count in (3, 4)] == [True, False]


def test_a_rate_that_would_need_a_negative_round_trip_is_clamped() -> None:
    estimate = LinkEstimate()
    for n, (size, seconds) in enumerate([(100, 0.01), (200, 0.5), (100, 0.01), (200, 0.5)]):
        estimate.sent(n, size, now=0.0)
        estimate.answered(n, 0.0, now=seconds)
    times = present(estimate.times)
    assert times.round_trip == pytest.approx(0.0)
    assert times.seconds_per_byte * times.num_bytes == pytest.approx(times.asking)


def test_an_answer_before_its_own_verification_is_over_counts_as_no_time() -> None:
    estimate = LinkEstimate()
    for n in range(4):
        estimate.sent(n, 100, now=0.0)
        estimate.answered(n, 0.5, now=0.2)
    times = present(estimate.times)
    assert (times.round_trip, times.seconds_per_byte, times.verification) == (0.0, 0.0, 0.2)


def test_faded_drafts_count_as_few_against_a_new_one() -> None:
    estimate = learnt([100] * 50)
    estimate.fade(2.0)
    estimate.fade(10.0)  # they count as two already
    estimate.sent("new", 100, now=0.0)
    estimate.answered("new", 0.0, now=1.0)
    old = ROUND_TRIP + BYTE_TIME * 100
    assert present(estimate.times).round_trip == pytest.approx((2 * 0.98 * old + 1.0) / (2 * 0.98 + 1))


# -- the gate --------------------------------------------------------------------------------------------


def tuner(
    estimate: LinkEstimate,
    *,
    rejection_cost: float = 0.0,
    byte_price: float | None = None,
    control: RiskControl | None = None,
) -> Tuner:
    fit = Fit(0.8, -0.04)
    return Tuner(0.08, fit, byte_price, control=control, rejection_cost=rejection_cost, link=estimate)


def test_a_token_is_skipped_exactly_when_asking_costs_more_than_its_expected_rejection() -> None:
    estimate = learnt([50, 400, 120, 2000, 90] * 10)
    cost = 0.4
    threshold = tuner(estimate, rejection_cost=cost).numbers().threshold
    assert 0 < threshold < 1
    for uncertainty in np.linspace(0, 1, 101):
        pays_to_skip = cost * Fit(0.8, -0.04).rejection(float(uncertainty)) <= present(estimate.times).asking
        assert (uncertainty <= threshold) == pays_to_skip


def test_a_slower_link_and_a_cheaper_rejection_skip_more() -> None:
    slow, fast = learnt([50, 400] * 10, byte_time=1e-3), learnt([50, 400] * 10)
    thresholds = [
        tuner(estimate, rejection_cost=cost).numbers().threshold
        for estimate, cost in ((fast, 1.0), (fast, 0.5), (slow, 0.5), (slow, 0.01))
    ]
    assert thresholds == sorted(thresholds)
    assert thresholds[-1] == 1.0


def asks(gate: Tuner, byte_time: float, count: int) -> list[bool]:
    """Which of `count` answers send three drafts over a link like this: those with a threshold below 1."""
    asked: list[bool] = []
    for answer in range(count):
        asked.append(gate.numbers().threshold < 1.0)
        for n, size in enumerate([50, 400, 120] * asked[-1]):
            gate.link.sent((answer, n), size, now=0.0)
            gate.link.answered((answer, n), VERIFY, now=ROUND_TRIP + byte_time * size + VERIFY)
        gate.ended(Tally(num_uplinks=3 * asked[-1]), Experience(0.01))
    return asked


def test_a_gate_that_a_slow_link_has_shut_asks_now_and_then_and_opens_when_the_link_is_better() -> None:
    slow = 1e-2
    gate = tuner(learnt([50, 400, 120] * 100, byte_time=slow), rejection_cost=0.4)
    assert asks(gate, slow, 10 * (PROBE_AFTER + 1)) == ([False] * PROBE_AFTER + [True]) * 10
    assert all(asks(gate, BYTE_TIME, 60)[-20:])


@pytest.mark.parametrize(
    ("num_silent", "is_old"), [(1, False), (PROBE_AFTER - 1, False), (PROBE_AFTER, True)]
)
def test_only_a_long_silence_makes_what_is_known_of_the_link_old(num_silent: int, is_old: bool) -> None:
    gate = tuner(learnt([100] * 50))
    for _ in range(num_silent):
        gate.ended(Tally(), Experience(0.01))
    gate.link.sent("new", 100, now=0.0)
    gate.link.answered("new", 0.0, now=10.0)
    assert (present(gate.link.times).round_trip > 1.0) == is_old


def test_before_the_link_is_known_the_schemes_numbers_hold() -> None:
    numbers = tuner(LinkEstimate(), rejection_cost=1.0).numbers()
    assert (numbers.threshold, numbers.byte_price) == (0.08, DEFAULT_BYTE_PRICE)


def test_numbers_do_not_move_with_the_link_once_they_are_chosen() -> None:
    estimate = learnt([50, 400] * 10)
    chosen = tuner(estimate, rejection_cost=0.4)
    before = chosen.numbers()
    estimate.sent("late", 100, now=0.0)
    estimate.answered("late", 0.5, now=9.0)
    assert chosen.numbers() != before
    assert before.threshold == tuner(learnt([50, 400] * 10), rejection_cost=0.4).numbers().threshold


def test_a_byte_is_priced_in_rejections_unless_the_settings_say_how() -> None:
    estimate = learnt([50, 400, 120, 2000, 90] * 10)
    measured = tuner(estimate)
    measured.experience = Experience(0.01)
    assert measured.numbers().byte_price == pytest.approx(BYTE_TIME / (ROUND_TRIP + VERIFY + 0.01))
    assert tuner(estimate, byte_price=0.003).numbers().byte_price == 0.003


def test_a_byte_costs_no_more_than_a_rejection() -> None:
    steep = LinkEstimate()
    for n, (size, seconds) in enumerate([(1, 1.0), (3, 3.0)] * 10):
        steep.sent(n, size, now=0.0)
        steep.answered(n, 0.0, now=seconds)
    assert tuner(steep).numbers().byte_price == 1.0


def test_the_draft_time_stays_where_an_answer_measured_none() -> None:
    measured = tuner(learnt([50, 400] * 10))
    measured.ended(Tally(), Experience(0.02))
    measured.ended(Tally(), Pacing(None, experience=measured.experience).experience)
    assert measured.experience.draft == 0.02


def test_risk_has_the_last_word_about_the_threshold() -> None:
    control = RiskControl(0.02, RiskCurve.guessed(0.5, 0.02))
    assert tuner(learnt([50, 400] * 10), control=control).numbers().threshold == 0.5
