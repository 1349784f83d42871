"""Risk that is kept: the curve, the control in known worlds, and a real agent on shifted prompts."""

import asyncio
import csv
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.agent import EdgeAgent
from edge_agent.config import AgentConfig
from edge_agent.policy.rejection_fit import Fit
from edge_agent.report import Report
from edge_agent.session.pacing import Experience
from edge_agent.session.tally import Tally
from edge_agent.session.transcript import Fate
from edge_agent.tuning.calibration import OperatingPoint
from edge_agent.tuning.risk_control import PATIENCE, RiskControl, RiskCurve
from edge_agent.tuning.tuner import Tuner
from evaluation.__main__ import main
from evaluation.local.broker import LocalBroker
from evaluation.local.worker import LocalWorker
from evaluation.risk.domains import DOMAINS
from evaluation.risk.measuring import Answered, Run
from evaluation.smart_home.held_out import held_out
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


# -- a real agent ----------------------------------------------------------------------------------------


async def measured(config: AgentConfig, prompts: list[str]) -> list[Report]:
    reports: list[Report] = []
    async with EdgeAgent.open(config) as agent:
        for seed, prompt in enumerate(prompts):
            generation = agent.generate(prompt, seed=seed)
            async for _ in generation:
                pass
            await agent.audited()
            statistics = agent.link_statistics
            reports.append(Report.of(generation, statistics, statistics, agent.risk))
    return reports


def test_on_shifted_prompts_a_steered_threshold_risks_less_than_a_fixed_one(broker: LocalBroker) -> None:
    prompts = [DOMAINS["shifted"](each.command) for each in held_out(25)]
    common = AgentConfig(broker=broker.url, scheme="opportunistic", temperature=1.0)
    with LocalWorker(broker.url):
        fixed = asyncio.run(measured(replace(common, threshold=0.6, audit=1.0), prompts))
        steered = asyncio.run(measured(replace(common, risk=0.05), prompts))
        again = asyncio.run(measured(replace(common, threshold=steered[3].threshold), prompts[:4]))
    for reports in (fixed, steered):
        assert all(report.num_measured == report.num_skipped for report in reports)
    of_fixed, of_steered = (present(each[-1].measured_risk_of_agent) for each in (fixed, steered))
    assert of_fixed > 2 * 0.05
    assert of_steered < 0.6 * of_fixed
    assert steered[-1].threshold < steered[0].threshold
    # law 3: the threshold that the report names makes the text again
    assert again[3].text == steered[3].text


@pytest.mark.slow
def test_on_shifted_prompts_the_steered_risk_is_epsilon_and_the_fixed_one_a_multiple(tmp_path: Path) -> None:
    command = ["risk", "--num", "120", "--epsilon", "0.05", "--out", str(tmp_path)]
    assert main(command) == 0  # every steered run within a fifth, or all skipped
    with (tmp_path / "risk.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["domain"] == "shifted" and row["mode"] == "fixed"]
    assert sum(float(row["lost"]) for row in rows) > 2 * 0.05 * sum(int(row["tokens"]) for row in rows)


def a_run(risk: float, skip_rate: float, epsilon: float = 0.05) -> Run:
    lost = Answered(0.1, 1000, round(1000 * skip_rate), 1, 1, round(1000 * skip_rate), 1000 * risk)
    return Run("shifted", "steered", epsilon, (lost,))


@pytest.mark.parametrize(
    ("risk", "skip_rate", "is_kept"),
    [
        (0.05, 0.8, True),
        (0.0599, 0.8, True),
        (0.061, 0.8, False),
        (0.061, 1.0, False),
        (0.039, 0.8, False),
        (0.039, 1.0, True),
    ],
)
def test_a_risk_is_kept_within_a_fifth_or_below_it_when_all_is_skipped(
    risk: float, skip_rate: float, is_kept: bool
) -> None:
    assert a_run(risk, skip_rate).is_kept is is_kept


def test_the_command_writes_its_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["risk", "--num", "2", "--epsilon", "0.05", "--out", str(tmp_path)]) == 0
    page = (tmp_path / "risk.md").read_text()
    assert page.count("| 0.05 | shifted |") == 2
    assert len((tmp_path / "risk.csv").read_text().splitlines()) == 1 + 2 * 2 * len(DOMAINS)
    assert (tmp_path / "risk.svg").exists()
    assert "epsilon 0.05, shifted, steered: risk" in capsys.readouterr().out


@pytest.mark.parametrize("flags", [("--num", "0"), ("--epsilon", "0"), ("--epsilon", "2")])
def test_the_command_refuses_numbers_without_sense(
    flags: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["risk", *flags]) == 2
    assert "evaluation risk: --" in capsys.readouterr().err
