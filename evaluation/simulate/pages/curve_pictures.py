"""The pictures of the curves: what is paid, and how fast and right the texts are, against the drift."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from common.sampling.randomness import FloatArray
from evaluation.simulate.curves import DRIFT, SKIPPED, Curve, bytes_in, seconds_in
from evaluation.simulate.pages.pictures import add_line, finish

LEAST_DRIFT = 1e-5  # what is below is drawn at the edge
LEFT_OUT = ("cu-hlm-offline, k = 4", "opportunistic, k")  # they hide what they hardly differ from


def over_drift(curves: Sequence[Curve]) -> Figure:
    """Draw bytes and tokens/s against the drift, one column per world; schemes without drift are levels."""
    curves = [curve for curve in curves if not curve.label.startswith(LEFT_OUT)]
    worlds = curves[0].worlds
    figure = Figure(figsize=(4.6 * len(worlds), 8.0), layout="constrained")
    panels = figure.subplots(2, len(worlds), squeeze=False)
    for column, world in enumerate(worlds):
        for curve in curves:
            once = _once(curve)
            drifts = np.maximum(curve.per_token(DRIFT, once)[0], LEAST_DRIFT)
            bytes_up = np.maximum(curve.per_token(bytes_in(world), once)[0], 0.01)
            _curve(panels[0][column], curve.label, drifts, bytes_up)
            _curve(panels[1][column], curve.label, drifts, 1 / curve.per_token(seconds_in(world), once)[0])
        panels[0][column].set(title=world, ylabel="uplink bytes per token", yscale="log")
        panels[1][column].set(ylabel="tokens/s", yscale="log")
        panels[0][column].set_ylim(bottom=1.0)
        for axes in panels[:, column]:
            axes.set(xscale="log", xlabel="drift per token")
    finish(figure, panels[0][-1])
    return figure


def accuracy(curves: Sequence[Curve]) -> Figure:
    """Draw the share of right replies against tokens/s in the last world; up and right is better."""
    figure = Figure(figsize=(7, 5), layout="constrained")
    axes = figure.subplots()
    world = curves[0].worlds[-1]
    for curve in curves:
        once = _once(curve)
        rates = 1 / curve.per_token(seconds_in(world), once)[0]
        add_line(axes, curve.label, (100 * curve.right(once)[0]).tolist(), rates.tolist())
    axes.set(xlabel="replies that are exactly right (%)", ylabel="tokens/s", title=world)
    finish(figure, axes)
    return figure


def skips(curves: Sequence[Curve]) -> Figure:
    """Draw what is skipped against what it costs."""
    figure = Figure(figsize=(7, 5), layout="constrained")
    axes = figure.subplots()
    for curve in curves:
        if len(curve.knobs) > 1 and "window" not in curve.label:
            once = _once(curve)
            skipped, drift = (100 * curve.per_token(name, once)[0] for name in (SKIPPED, DRIFT))
            add_line(axes, curve.label, skipped.tolist(), drift.tolist())
    axes.set(xlabel="tokens skipped (%)", ylabel="drift: skipped rejection mass per token (%)")
    finish(figure, axes)
    return figure


def _curve(axes: Axes, label: str, drifts: FloatArray, heights: FloatArray) -> None:
    if len(drifts) == 1 and drifts[0] <= LEAST_DRIFT:  # it has no drift: the same at every level
        add_line(axes, label, [LEAST_DRIFT, 0.03], [heights[0]] * 2)
    else:
        add_line(axes, label, drifts.tolist(), heights.tolist())


def _once(curve: Curve) -> FloatArray:
    return np.ones((1, 1 + int(curve.commands.max())))
