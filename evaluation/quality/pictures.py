"""Accuracy against the share of verified tokens, one dot per variant: what asking the target model gains."""

from collections.abc import Sequence

from matplotlib.figure import Figure

from evaluation.quality.scores import Score
from evaluation.quality.variants import REFERENCE, Variant


def tradeoff(scored: Sequence[tuple[Variant, Score]]) -> Figure:
    """Draw exact match with its interval; the grey line is the target model's."""
    figure = Figure(figsize=(7.5, 4.5), layout="constrained")
    axes = figure.subplots()
    for scheme in dict.fromkeys(variant.scheme for variant, _ in scored):
        of_scheme = [score for variant, score in scored if variant.scheme == scheme]
        accuracies = [score.accuracy for score in of_scheme]
        axes.errorbar(
            [1.0 - score.skipped for score in of_scheme],
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
    axes.legend(fontsize="small", ncols=2)
    return figure
