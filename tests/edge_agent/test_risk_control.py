"""Risk that is kept: the curve, the control in known worlds, and a real agent on shifted prompts."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.policy.rejection_fit import Fit
from edge_agent.session.pacing import Experience
from edge_agent.session.tally import Tally
from edge_agent.session.transcript import Fate
from edge_agent.tuning.calibration import OperatingPoint
from edge_agent.tuning.risk_control import PATIENCE, RiskControl, RiskCurve
from edge_agent.tuning.tuner import Tuner
from tests.support.narrowing import present

POINTS = (OperatingPoint(0.0, 0.0, 1.0), OperatingPoint(0.1, 0.001, 0.4), OperatingPoint(0.4, 0.016, 0.1))


# -- the curve -------------------------------------------------------------------------------------------


def test_a_curve_gives_the_threshold_of_each_point_and_what_lies_between() -> None:
    curve = present(RiskCurve.measured(POINTS))
    assert curve.threshold(0.001) == pytest.approx(0.1)
    assert curve.threshold(0.004) == pytest.approx(0.2)  # half way on both logarithmic scales
    assert curve.threshold(0.0005) == pytest.approx(0.05)
    assert curve.threshold(0.016) == curve.threshold(0.5) == 1.0


def test_a_curve_that_begins_at_threshold_0_verifies_everything_below_its_risk() -> None:
    points = [OperatingPoint(0.0, 0.01, 0.5), OperatingPoint(0.5, 0.02, 0.1)]
    curve = present(RiskCurve.measured(points))
    assert curve.threshold(0.009) == -1.0
    assert curve.threshold(0.01) == 0.0


def test_a_calibration_that_never_risked_anything_tells_nothing() -> None:
    assert RiskCurve.measured([OperatingPoint(0.0, 0.0, 1.0), OperatingPoint(1.0, 0.0, 0.0)]) is None


def test_without_a_calibration_the_threshold_is_in_proportion() -> None:
    curve = RiskCurve.guessed(0.08, 0.02)
    assert [curve.threshold(budget) for budget in (0.01, 0.02, 0.04, 1.0)] == pytest.approx(
        [0.04, 0.08, 0.16, 1]
    )


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=8), st.data())
def test_a_larger_budget_never_lowers_the_threshold(
    pairs: list[tuple[float, float]], data: st.DataObject
) -> None:
    thresholds, risks = sorted(t for t, _ in pairs), sorted(r for _, r in pairs)
    curve = RiskCurve.measured(OperatingPoint(t, r, 0.5) for t, r in zip(thresholds, risks, strict=True))
    if curve is not None:
        low, high = sorted(data.draw(st.tuples(st.floats(1e-9, 1), st.floats(1e-9, 1))))
        assert -1.0 <= curve.threshold(low) <= curve.threshold(high) + 1e-12 <= 1.0 + 1e-12


# -- the control -----------------------------------------------------------------------------------------


def world(control: RiskControl, *, factor: float, num_answers: int, seed: int) -> float:
    """Mean risk when a skipped token at u is lost with probability min(1, factor * u / 2); u is uniform."""
    rng = np.random.default_rng(seed)
    lost, num_tokens = 0.0, 0
    for _ in range(num_answers):
        length = int(rng.integers(20, 100))
        uncertainty = rng.random(length)
        is_lost = rng.random(length) < factor * uncertainty / 2
        risk = float(np.mean(is_lost & (uncertainty <= control.threshold)))
        control.observe(risk, length)
        lost, num_tokens = lost + risk * length, num_tokens + length
    return lost / num_tokens


@pytest.mark.parametrize("epsilon", [0.01, 0.02, 0.05])
@pytest.mark.parametrize("factor", [0.2, 1.0, 5.0])
def test_the_long_run_risk_is_epsilon_however_wrong_the_curve_is(epsilon: float, factor: float) -> None:
    points = [OperatingPoint(t, t**2 / 4, 1 - t) for t in np.linspace(0, 1, 101)]  # right for factor 1
    for seed in range(3):
        control = RiskControl(epsilon, present(RiskCurve.measured(points)))
        assert world(control, factor=factor, num_answers=400, seed=seed) == pytest.approx(epsilon, rel=0.2)


@settings(max_examples=50)
@given(
    st.floats(0.005, 0.2), st.lists(st.tuples(st.booleans(), st.integers(1, 200)), min_size=200, max_size=200)
)
def test_an_adversary_cannot_push_the_mean_up_for_long(
    epsilon: float, answers: list[tuple[bool, int]]
) -> None:
    """Whatever is skipped is lost in full, whenever the adversary likes: the excess stays bounded."""
    control = RiskControl(epsilon, RiskCurve.guessed(0.08, epsilon))
    for hostile, length in answers:
        # a threshold of t skips a share t of the tokens
        control.observe(control.threshold if hostile else 0.0, length)
        assert PATIENCE * math.log(epsilon) - 1e-9 <= control.excess <= 220


def test_what_was_not_measured_does_not_steer() -> None:
    tuner = Tuner(0.08, Fit(1.0, 0.0), control=RiskControl(0.02, RiskCurve.guessed(0.08, 0.02)))
    tally = Tally()
    tally.num_by_fate[Fate.LOCAL] = 50
    tuner.ended(tally, Experience())
    assert tuner.numbers().threshold == pytest.approx(0.08)
    tally.num_measured, tally.measured_risk_sum = 50, 0.0
    tuner.ended(tally, Experience())
    assert tuner.numbers().threshold > 0.08


@pytest.mark.parametrize(("share", "expected"), [(0.0, 0), (0.25, 25), (1.0, 100)])
def test_the_share_of_audits_is_kept(share: float, expected: int) -> None:
    tuner = Tuner(0.08, Fit(1.0, 0.0), audit_share=share)
    assert sum(tuner.wants_audit() for _ in range(100)) == expected
