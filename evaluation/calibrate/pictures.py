"""The pictures of a calibration, as matplotlib figures made from the same samples as the tables."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from edge_agent.tuning.calibration import OperatingPoint
from evaluation.calibrate.rejection_line import Bin, Curve, Line
from evaluation.calibrate.samples import Samples

SIZE = (6.0, 3.8)  # inches
MAX_DOTS = 8000  # in the scatter; more do not improve it
INK, LINE, CURVE = "#3366aa", "#cc3311", "#009988"


def scatter(samples: Samples, estimator: str, line: Line, curve: Curve) -> Figure:
    """Draw rejection probability against uncertainty, one dot per draft token, with line and curve."""
    uncertainty, rejection = samples.uncertainty[estimator], samples.rejection
    chosen = np.random.default_rng(0).permutation(samples.num_tokens)[:MAX_DOTS]
    figure, axes = _figure(f"uncertainty u ({estimator})", "rejection probability β")
    dots: dict[str, Any] = {
        "color": INK,
        "alpha": 0.25,
        "markersize": 4,
        "label": "draft tokens",
        "rasterized": True,
    }
    axes.plot(uncertainty[chosen], rejection[chosen], ".", **dots)
    ends = np.linspace(0.0, max(1e-9, float(uncertainty.max())), 200)
    axes.plot(ends, line.slope.value * ends + line.intercept.value, color=LINE, label="least squares")
    axes.plot(ends, curve.at(ends), color=CURVE, label="isotonic")
    axes.set_ylim(-0.05, 1.05)
    axes.legend()
    return figure


def reliability(by_line: Sequence[Bin], by_curve: Sequence[Bin]) -> Figure:
    """Draw the predictions from one half of the prompts against the observations in the other."""
    figure, axes = _figure("predicted rejection probability", "observed, with 95 % interval")
    axes.plot([0, 1], [0, 1], color="grey", linewidth=0.8)
    for bins, name, colour in ((by_line, "least squares", LINE), (by_curve, "isotonic", CURVE)):
        observed = [each.observed for each in bins]
        below = [max(0.0, each.value - each.low) for each in observed]
        above = [max(0.0, each.high - each.value) for each in observed]
        axes.errorbar(
            [each.predicted for each in bins],
            [each.value for each in observed],
            yerr=[below, above],
            fmt="o",
            markersize=4,
            color=colour,
            label=name,
        )
    axes.set_xscale("symlog", linthresh=0.01)
    axes.set_yscale("symlog", linthresh=0.01)
    axes.legend()
    return figure


def histogram(samples: Samples, estimators: Sequence[str]) -> Figure:
    """Draw how often each uncertainty occurs."""
    figure, axes = _figure("uncertainty u", "share of draft tokens")
    weights = np.full(samples.num_tokens, 1 / samples.num_tokens)
    for name in estimators:
        values = samples.uncertainty[name]
        axes.hist(values, bins=40, range=(0, 1), weights=weights, histtype="step", label=name)
    axes.set_yscale("log")
    axes.legend()
    return figure


def tradeoff(points_of: dict[str, Sequence[OperatingPoint]], budgets: Sequence[float]) -> Figure:
    """Draw risk against uplink rate, one line per estimator; lower is better."""
    figure, axes = _figure("uplink rate (share of tokens verified)", "risk of a token")
    for name, points in points_of.items():
        axes.plot([each.uplink_rate for each in points], [each.risk for each in points], label=name)
    highest = 1.05 * max(each.risk for points in points_of.values() for each in points)
    for budget in budgets:
        if budget < highest:
            axes.axhline(budget, color="grey", linewidth=0.6, linestyle=":")
    axes.set_xscale("symlog", linthresh=0.01)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, highest)
    axes.legend()
    return figure


def truncation(samples: Samples, offline_k: int, theta: float) -> Figure:
    """Draw tail mass and CU-HLM's error bound against k."""
    figure, axes = _figure("k (ids that are sent)", "mean over draft tokens")
    axes.plot(samples.ks, np.maximum(samples.tail_mass, 1e-9), color=INK, label="tail mass beyond k")
    axes.plot(
        samples.ks, np.maximum(samples.truncation_bound, 1e-9), color=LINE, label="error bound (eq. 26)"
    )
    axes.axhline(theta, color="grey", linewidth=0.6, linestyle=":")
    axes.axvline(offline_k, color=CURVE, linewidth=0.8, label=f"k* = {offline_k}")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_ylim(bottom=1e-7)
    axes.legend()
    return figure


def _figure(x: str, y: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=SIZE, layout="constrained")
    axes = figure.subplots()
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(visible=True, linewidth=0.3)
    return figure, axes
