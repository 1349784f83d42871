"""The page of the command: a table, a picture and a CSV file."""

from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
from matplotlib.figure import Figure

from evaluation.reporting.results import Cell, header, markdown_table, write_csv, write_section, write_svg
from evaluation.risk.measuring import TOLERANCE, Run

COLOURS = {"fixed": "tab:red", "steered": "tab:blue"}
STYLES = {"in-domain": "--", "shifted": "-", "misspelt": ":"}
HEADINGS = (
    "epsilon",
    "prompts",
    "threshold",
    "tokens",
    "measured risk",
    "of epsilon",
    "kept",
    "skipped",
    "unmeasured",
    "uplinks/token",
    "audits/token",
    "last threshold",
)
CSV_HEADINGS = (
    "epsilon",
    "domain",
    "mode",
    "answer",
    "threshold",
    "tokens",
    "skipped",
    "uplinks",
    "audits",
    "measured",
    "lost",
)


def write_page(folder: Path, runs: Sequence[Run], command: str) -> Path:
    """Write risk.md, risk.svg and risk.csv to the folder; return the page."""
    page = folder / "risk.md"
    write_csv(folder / "risk.csv", CSV_HEADINGS, [row for run in runs for row in _csv_rows(run)])
    write_svg(folder / "risk.svg", picture(runs))
    table = markdown_table(HEADINGS, [_row(run) for run in runs])
    shown = "![mean measured risk against tokens, fixed and steered](risk.svg)"
    write_section(
        page, "risk", f"{header(command)}\n\n{table}\n\n{shown}\n\nAll answers: [risk.csv](risk.csv)."
    )
    return page


def _row(run: Run) -> tuple[Cell, ...]:
    tokens = max(1, run.num_tokens)
    return (
        run.epsilon,
        run.domain,
        run.mode,
        run.num_tokens,
        f"{run.risk:.4f}",
        f"{run.risk / run.epsilon:.0%}",
        "yes" if run.is_kept else "no",
        f"{run.skip_rate:.1%}",
        run.num_unmeasured,
        sum(each.num_uplinks for each in run.answers) / tokens,
        sum(each.num_audits for each in run.answers) / tokens,
        run.answers[-1].threshold,
    )


def _csv_rows(run: Run) -> list[tuple[Cell, ...]]:
    return [
        (
            run.epsilon,
            run.domain,
            run.mode,
            number,
            each.threshold,
            each.num_tokens,
            each.num_skipped,
            each.num_uplinks,
            each.num_audits,
            each.num_measured,
            each.lost,
        )
        for number, each in enumerate(run.answers)
    ]


def picture(runs: Sequence[Run]) -> Figure:
    """Draw a panel per epsilon: mean risk so far against tokens so far, and the band around epsilon."""
    epsilons = sorted({run.epsilon for run in runs})
    figure = Figure(figsize=(4.2 * len(epsilons), 3.6), layout="constrained")
    for panel, epsilon in zip(figure.subplots(1, len(epsilons), squeeze=False)[0], epsilons, strict=True):
        panel.axhspan((1 - TOLERANCE) * epsilon, (1 + TOLERANCE) * epsilon, color="tab:green", alpha=0.2)
        for run in runs:
            if run.epsilon != epsilon:
                continue
            tokens = list(accumulate(each.num_tokens for each in run.answers))
            lost = accumulate(each.lost for each in run.answers)
            risks = [total / count for total, count in zip(lost, tokens, strict=True)]
            panel.plot(
                tokens, risks, STYLES[run.domain], color=COLOURS[run.mode], label=f"{run.mode}, {run.domain}"
            )
        panel.set(title=f"epsilon = {epsilon:g}", xlabel="tokens so far", yscale="log")
    figure.axes[0].set_ylabel("measured risk per token so far")
    figure.axes[0].legend(fontsize="small")
    return figure
