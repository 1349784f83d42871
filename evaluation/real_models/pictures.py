"""Accuracy per scheme, and tokens per second per way."""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from evaluation.reporting.resampling import Estimate


def accuracies(found: Mapping[str, Mapping[str, Estimate]]) -> Figure:
    """Draw the share of right answers with its interval: a panel per task, a bar per scheme."""
    figure = Figure(figsize=(4.2 * len(found), 3.2), layout="constrained")
    panels = figure.subplots(1, len(found), sharey=True, squeeze=False)[0]
    for axes, (kind, by_scheme) in zip(panels, found.items(), strict=True):
        values = 100 * np.array([each.value for each in by_scheme.values()])
        low = 100 * np.array([each.low for each in by_scheme.values()])
        high = 100 * np.array([each.high for each in by_scheme.values()])
        places = np.arange(len(by_scheme))
        axes.barh(places, values, xerr=(values - low, high - values), color="#7a9cc6", capsize=3)
        axes.set_yticks(places, list(by_scheme))
        axes.set_xlim(0, 100)
        axes.set_title(kind)
        axes.set_xlabel("right, %")
        axes.grid(visible=True, axis="x", linewidth=0.3)
    panels[0].invert_yaxis()
    return figure


def rates(found: Mapping[str, Mapping[str, float]]) -> Figure:
    """Draw tokens per second: a panel per kind of text, a bar per way."""
    height = 0.6 + 0.28 * max(map(len, found.values()))
    columns = min(3, len(found))
    lines = -(-len(found) // columns)
    figure = Figure(figsize=(4.0 * columns, height * lines), layout="constrained")
    panels = figure.subplots(lines, columns, squeeze=False).flat
    for axes in panels[len(found) :]:
        axes.set_visible(False)
    for axes, (kind, by_way) in zip(panels, found.items(), strict=False):
        axes.barh(list(by_way), list(by_way.values()), color="#7a9cc6")
        axes.invert_yaxis()
        axes.set_title(kind, fontsize=10)
        axes.tick_params(labelsize=8)
        axes.grid(visible=True, axis="x", linewidth=0.3)
        axes.set_xlabel("tokens/s", fontsize=8)
    return figure
