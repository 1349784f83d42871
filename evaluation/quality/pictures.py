"""Accuracy against the share of verified tokens, and the schemes as curves over their measured drift."""

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from evaluation.quality.scores import Score
from evaluation.quality.setting import REFERENCE

STYLES = ("o-", "s--", "^:", "v-.", "D-", "P--", "X:")


def tradeoff(scored: Sequence[Score]) -> Figure:
    """Draw exact match with its interval; the grey line is the target model's."""
    figure = Figure(figsize=(7.5, 4.8), layout="constrained")
    axes = figure.subplots()
    for scheme in dict.fromkeys(each.setting.scheme for each in scored):
        of_scheme = [each for each in scored if each.setting.scheme == scheme]
        accuracies = [each.accuracy for each in of_scheme]
        axes.errorbar(
            [each.sent for each in of_scheme],
            [100 * each.value for each in accuracies],
            yerr=[
                [100 * (each.value - each.low) for each in accuracies],
                [100 * (each.high - each.value) for each in accuracies],
            ],
            fmt="o",
            markersize=5,
            capsize=2,
            linewidth=0.8,
            label=scheme,
        )
        if scheme == REFERENCE:
            axes.axhline(100 * accuracies[0].value, color="grey", linewidth=0.8)
    axes.set_xscale("symlog", linthresh=0.02)
    axes.set_xlim(-0.002, 1.1)
    axes.set_xlabel("share of tokens that the target model verifies or writes")
    axes.set_ylabel("exact match, %")
    axes.grid(visible=True, linewidth=0.3)
    figure.legend(loc="outside lower center", fontsize="small", ncols=5)
    return figure


def equal_drift(curves: Mapping[str, Sequence[Score]]) -> Figure:
    """Draw three panels over the measured drift: what is sent, exact match, and share of equal texts."""
    figure = Figure(figsize=(11, 4.6), layout="constrained")
    panels = figure.subplots(1, 3)
    for (family, scored), style in zip(curves.items(), STYLES * 2, strict=False):
        shown = [each for each in scored if each.drift > 0.0]
        drifts = [each.drift for each in shown]
        values = (
            [100 * each.sent for each in shown],
            [100 * each.accuracy.value for each in shown],
            [100 * each.same_text.value for each in shown],
        )
        for axes, column in zip(panels, values, strict=True):
            axes.plot(drifts, column, style, markersize=4, linewidth=1, label=family)
    titles = ("tokens sent, %", "exact match, %", "same text as the target, %")
    for axes, title in zip(panels, titles, strict=True):
        axes.set(xscale="log", xlabel="measured drift per token", title=title)
        axes.grid(visible=True, linewidth=0.3)
    panels[0].set_yscale("log")
    figure.legend(
        *panels[0].get_legend_handles_labels(), loc="outside lower center", fontsize="small", ncols=4
    )
    return figure
