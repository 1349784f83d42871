"""The page of a calibration: its text, tables and pictures, as blocks."""

from collections.abc import Sequence

from common.sampling.distribution import Sampling
from evaluation.calibrate import pictures
from evaluation.calibrate.analysis import Analysis
from evaluation.calibrate.association import FIGURES
from evaluation.calibrate.blocks import Block, Heading, Paragraph, Picture, Table
from evaluation.calibrate.samples import COSTED_KS, HYBRID, TARGET
from evaluation.reporting.results import Cell

PUBLISHED = (("U-HLM", 0.82, -0.06, 0.073, 0.43), ("CU-HLM", 0.815, -0.066, 0.081, 0.81))
NOISE_FREE, VOTE = "perturbation-mean", "perturbation-vote"
TEXT_OF = {HYBRID: "the hybrid's own", TARGET: "the target's"}
SHOWN_K = (1, 2, 4, 8, 16, 32, 64, 128)


def page_blocks(
    found: Analysis, *, header: str, pair: str, sampling: Sampling, num_prompts: int
) -> list[Block]:
    """Return the whole page; `header` states how it was made, `pair` names the models."""
    first = (
        f"{pair}, {num_prompts} prompts, temperature {sampling.temperature:g}, top-k {sampling.top_k}, "
        f"top-p {sampling.top_p:g}. Intervals are 95 %, from 1,000 resamples of whole prompts."
    )
    return [
        Paragraph(header),
        Paragraph(first),
        Heading("The measured tokens"),
        *_levels(found),
        Heading("Which uncertainty predicts rejection"),
        *_estimators(found),
        Heading("The line"),
        *_line(found),
        Heading("Thresholds"),
        *_thresholds(found),
        Heading("How many probabilities are needed"),
        *_truncation(found),
    ]


def _levels(found: Analysis) -> list[Block]:
    rows: list[Sequence[Cell]] = [
        (
            TEXT_OF[name],
            level.num_tokens,
            f"{level.rejection:.4f}",
            f"{level.distance:.4f}",
            f"{level.untruncated_distance:.4f}",
            f"{level.rejected:.4f}",
        )
        for name, level in found.levels.items()
    ]
    return [
        Table(("text", "draft tokens", "mean β", "mean TV(q, y)", "mean TV(x, y)", "rejected"), rows),
        Paragraph(
            "β is the rejection probability of the drawn token, q the part that is sent of the draft model's "
            "distribution x, and y the target model's distribution. Over draws the mean of β is TV(q, y), so "
            "the third and fourth columns must agree; the fifth differs by what truncation adds. All figures "
            "below come from the hybrid's own text unless stated otherwise."
        ),
        Paragraph(_times(found)),
    ]


def _times(found: Analysis) -> str:
    times = found.times
    text = f"The draft model took {1000 * times.draft_seconds:.1f} ms per token on this machine"
    if times.pass_seconds is None:
        return f"{text}."
    rest = f"{1000 * times.pass_seconds:.0f} ms and {1000 * times.row_seconds:.1f} ms per token"
    return f"{text}, and a pass of the target model {rest} ({times.num_passes} passes)."


def _estimators(found: Analysis) -> list[Block]:
    associations = found.associations
    rows: list[Sequence[Cell]] = [
        (name, *(f"{associations.of(name, figure):.3f}" for figure in FIGURES))
        for name in associations.estimators
    ]
    best = ", ".join(
        f"`{associations.best(figure)}` by {title}"
        for figure, title in zip(FIGURES, ("Pearson", "Spearman", "AUROC"), strict=True)
    )
    gains = ", ".join(
        f"{title} {associations.difference(NOISE_FREE, VOTE, figure):+.3f}"
        for figure, title in zip(FIGURES, ("Pearson", "Spearman", "AUROC"), strict=True)
    )
    figure = pictures.histogram(found.hybrid, tuple(found.hybrid.uncertainty))
    return [
        Table(("estimator", "Pearson with β", "Spearman with β", "AUROC of rejected"), rows),
        Paragraph(f"Best: {best}."),
        Paragraph(f"The noise-free form `{NOISE_FREE}` against the 20 votes of `{VOTE}`, paired: {gains}."),
        Picture("calibration-uncertainty", "Histogram of each uncertainty", figure),
    ]


def _line(found: Analysis) -> list[Block]:
    rows: list[Sequence[Cell]] = [
        (
            TEXT_OF[name],
            f"{line.slope:.3f}",
            f"{line.intercept:.4f}",
            line.explained,
            f"{line.risk_averse:.4f}",
            f"{line.risk_prone:.3f}",
            f"{line.share_below:.3f}",
        )
        for name, line in found.lines.items()
    ]
    rows += [
        (f"published, {name}", f"{a}", f"{b}", None, f"{averse}", f"{prone}", None)
        for name, a, b, averse, prone in PUBLISHED
    ]
    columns = (
        "text",
        "slope a",
        "intercept b",
        "R²",
        "risk-averse -b/a",
        "risk-prone (D-b)/a",
        "D = P(y_d < x_d)",
    )
    scatter = pictures.scatter(found.hybrid, found.estimator, found.line, found.curve)
    return [
        Paragraph(f"β ≈ a u + b with u of `{found.estimator}`:"),
        Table(columns, rows),
        Picture("calibration-fit", "Rejection probability against uncertainty, with both fits", scatter),
        Picture(
            "calibration-reliability",
            "Reliability: fitted on every second prompt, tested on the others",
            pictures.reliability(found.bins_of_line, found.bins_of_curve),
        ),
    ]


def _thresholds(found: Analysis) -> list[Block]:
    rows: list[Sequence[Cell]] = [
        (
            each.name,
            f"{each.threshold:.4f}",
            f"{each.risk:.4f}",
            f"{each.bound:.4f}",
            f"{each.uplink_rate:.3f}",
        )
        for each in found.choices
    ]
    budgets = [float(each.name.split()[-1]) for each in found.choices if each.name.startswith("risk budget")]
    figure = pictures.tradeoff(dict(found.points_of), budgets)
    return [
        Table(("choice", "threshold", "risk per token", "the papers' bound", "uplink rate"), rows),
        Paragraph(
            "Risk is the mean of β over all tokens; tokens above the threshold count 0, because they are "
            "verified. It bounds how far skipping moves the distribution of a token. The papers' bound is "
            "what the line expects of it: the mean of max(0, a u + b), where tokens above the threshold "
            "count 0."
        ),
        Picture("calibration-tradeoff", "Risk against uplink rate for each estimator", figure),
    ]


def _truncation(found: Analysis) -> list[Block]:
    samples = found.hybrid
    rows: list[Sequence[Cell]] = [
        (k, float(tail), float(bound))
        for k, tail, bound in zip(
            samples.ks.tolist(), samples.tail_mass, samples.truncation_bound, strict=True
        )
        if k in SHOWN_K or k == found.offline_k
    ]
    return [
        Table(("k", "mean tail mass", "mean error bound"), rows),
        Paragraph(
            f"The offline k* of CU-HLM is {found.offline_k}: the smallest k whose mean error bound (their "
            f"eq. 26, with the true β) is at most {found.theta:g}. That tolerance is a default of ours: the "
            "papers publish k* = 30 and no tolerance. This mean is over all tokens. Over the tokens that a "
            "threshold sends, which are the uncertain ones:"
        ),
        Table(
            ("sent: u above", "share of the tokens", "k*"),
            [
                (level, float(num) / samples.num_tokens, k)
                for (level, k), num in zip(
                    found.sent_ks, samples.num_above[: len(found.sent_ks)].tolist(), strict=True
                )
            ],
        ),
        *_message_costs(found),
        Picture(
            "calibration-truncation",
            "Tail mass and error bound against k",
            pictures.truncation(samples, found.offline_k, found.theta),
        ),
    ]


def _message_costs(found: Analysis) -> list[Block]:
    samples = found.hybrid
    if not samples.num_sent:  # with a threshold of 1
        return []
    return [
        Paragraph(
            f"What CU-HLM's message costs a sent token, as means over the {samples.num_sent:,} tokens that "
            "went up while the hybrid wrote: the truncation TV(x, x^), the TV that one byte per probability "
            "adds to x^, and the bias, β times the TV between the residuals that x^ and x give."
        ),
        Table(
            ("k", "TV(x, x^)", "rounding of x^", "bias"),
            [(k, *map(float, costs)) for k, costs in zip(COSTED_KS, samples.costs.T.tolist(), strict=True)],
        ),
    ]
