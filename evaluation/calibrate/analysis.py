"""The analysis of a calibration: from the walks of its prompts to figures for the page and the file. Pure.

The agent's figures come from the hybrid's own text, since that is what the agent will see; the target's text
shows how much that choice matters.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from edge_agent.errors import CalibrationError
from edge_agent.policy.uncertainty import DEFAULT_ESTIMATOR
from edge_agent.tuning.calibration import OperatingPoint
from evaluation.calibrate.association import Associations, associate
from evaluation.calibrate.model_times import ModelTimes, model_times
from evaluation.calibrate.rejection_line import (
    Bin,
    Curve,
    Line,
    fit_line,
    isotonic_curve,
    least_squares,
    reliability,
)
from evaluation.calibrate.samples import HYBRID, TARGET, Samples, Walk
from evaluation.calibrate.tradeoff import cost, offline_k, operating_points, papers_bound, sent_ks
from evaluation.reporting.resampling import Estimate, mean_of

MIN_PROMPTS = 2  # fewer cannot be resampled

Progress = Callable[[Iterable[int]], Iterable[int]]


@dataclass(frozen=True, slots=True)
class Level:
    """Means over the draft tokens of one kind of text."""

    num_tokens: int
    rejection: Estimate
    distance: Estimate
    untruncated_distance: Estimate
    rejected: Estimate


@dataclass(frozen=True, slots=True)
class Choice:
    """A threshold that a user may choose, with its risk and uplink rate."""

    name: str
    threshold: float
    risk: Estimate
    uplink_rate: Estimate
    bound: float  # the papers' bound on the risk, from the line


@dataclass(frozen=True, slots=True)
class Analysis:
    """All figures; `estimator` is the one that the thresholds are for, the others are for comparison."""

    estimator: str
    samples: Mapping[str, Samples]  # by kind of text: HYBRID or TARGET
    levels: Mapping[str, Level]
    lines: Mapping[str, Line]
    associations: Associations
    curve: Curve
    bins_of_line: Sequence[Bin]
    bins_of_curve: Sequence[Bin]
    points: tuple[OperatingPoint, ...]
    points_of: Mapping[str, Sequence[OperatingPoint]]
    choices: Sequence[Choice]
    theta: float
    offline_k: int
    sent_ks: tuple[tuple[float, int], ...]
    times: ModelTimes

    @property
    def hybrid(self) -> Samples:
        """The draft tokens that the agent's figures come from."""
        return self.samples[HYBRID]

    @property
    def line(self) -> Line:
        """The line that the agent uses."""
        return self.lines[HYBRID]


def analyse(
    walks: Mapping[str, Sequence[Walk]],
    estimator: str | None,
    budgets: Sequence[float],
    theta: float,
    progress: Progress = iter,
) -> Analysis:
    """Analyse the walks; CalibrationError if there are too few prompts.

    Without an `estimator`, the usual one is taken unless another predicts rejection better for certain.
    """
    if len(walks[HYBRID]) < MIN_PROMPTS:
        raise CalibrationError(f"one prompt is not enough to calibrate: give at least {MIN_PROMPTS}")
    samples = {name: Samples.of(walks[name]) for name in (HYBRID, TARGET) if walks.get(name)}
    associations = associate(samples[HYBRID], progress=progress)
    estimator = estimator or best_estimator(associations)
    lines = {name: fit_line(each, estimator) for name, each in samples.items()}
    hybrid, line = samples[HYBRID], lines[HYBRID]
    points_of = {name: operating_points(hybrid, name) for name in hybrid.uncertainty}
    by_line, by_curve = _held_apart(hybrid, estimator)
    return Analysis(
        estimator=estimator,
        samples=samples,
        levels={name: _level(each) for name, each in samples.items()},
        lines=lines,
        associations=associations,
        curve=isotonic_curve(hybrid.uncertainty[estimator], hybrid.rejection),
        bins_of_line=by_line,
        bins_of_curve=by_curve,
        points=points_of[estimator],
        points_of=points_of,
        choices=_choices(hybrid, estimator, line, points_of[estimator], budgets),
        theta=theta,
        offline_k=offline_k(hybrid, theta),
        sent_ks=sent_ks(hybrid, theta),
        times=model_times([walk.times for walk in walks[HYBRID]]),
    )


def best_estimator(associations: Associations) -> str:
    """The best by AUROC, if the interval of its advantage over the default one is above 0."""
    best = associations.best("auroc")
    better = best != DEFAULT_ESTIMATOR and associations.difference(best, DEFAULT_ESTIMATOR, "auroc").low > 0
    return best if better else DEFAULT_ESTIMATOR


def _level(samples: Samples) -> Level:
    columns = (samples.rejection, samples.distance, samples.untruncated_distance, 1.0 - samples.accepted)
    found = mean_of(columns, samples.prompt)
    return Level(samples.num_tokens, *(found.estimate(i) for i in range(4)))


def _held_apart(samples: Samples, estimator: str) -> tuple[list[Bin], list[Bin]]:
    """Return the reliability of line and curve, fitted on every second prompt and tested on the others."""
    fitted = samples.prompt % 2 == 0
    uncertainty, rejection = samples.uncertainty[estimator], samples.rejection
    slope, intercept = least_squares(uncertainty[fitted], rejection[fitted], np.ones(int(fitted.sum())))
    curve = isotonic_curve(uncertainty[fitted], rejection[fitted])
    tested, truth, prompts = uncertainty[~fitted], rejection[~fitted], samples.prompt[~fitted]
    by_line = np.clip(slope * tested + intercept, 0.0, 1.0)
    return reliability(by_line, truth, prompts), reliability(curve.at(tested), truth, prompts)


def _choices(
    samples: Samples,
    estimator: str,
    line: Line,
    points: Sequence[OperatingPoint],
    budgets: Sequence[float],
) -> list[Choice]:
    named = [
        ("risk-averse, -b / a", line.fit.risk_averse),
        ("risk-prone, (D - b) / a", line.risk_prone.value),
    ]
    for budget in budgets:
        threshold = max((each.threshold for each in points if each.risk <= budget), default=0.0)
        named.append((f"risk budget {budget:g}", threshold))
    return [
        Choice(
            name,
            value,
            *cost(samples, estimator, value),
            papers_bound(samples, estimator, line.fit, value),
        )
        for name, value in named
    ]
