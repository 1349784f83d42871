"""The sections made from curves: figures at equal drift (simulation.md), and the claims (papers.md).

Law: a table shows the given figures and computes none of its own. All of it comes from the replies, so it
can be made again without the models.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from evaluation.reporting.resampling import Estimate
from evaluation.reporting.results import Cell, markdown_table, shown, write_csv, write_section, write_svg
from evaluation.simulate.claims import (
    BYTES_FIGURE,
    LEVELS,
    RIGHT_FIGURE,
    SPEED_FIGURE,
    Claim,
    Figure,
    claims,
    figures,
)
from evaluation.simulate.curves import (
    BOUND,
    DRIFT,
    PAYLOAD,
    SKIPPED,
    TOKENS,
    TRUNCATION,
    Curve,
    bytes_in,
    seconds_in,
)
from evaluation.simulate.families import NARROW
from evaluation.simulate.pages import curve_pictures
from evaluation.simulate.pages.cells import percent

SWEEPS_PAGE, PAPERS_PAGE = "simulation.md", "papers.md"
SHOWN_LEVEL = 0.001  # of the claims on the page; the CSV file has all
SHOWN_OURS = ("opportunistic", "opportunistic, k = 2", "opportunistic, window 1", "lossless")
SHOWN_SKIPS = ("u-hlm", "opportunistic")  # CU-HLM skips as U-HLM does


def write_curve_sections(folder: Path, header: str, curves: Sequence[Curve]) -> None:
    """Write all that follows from the replies."""
    points_file(folder, curves)
    write_svg(folder / "simulation-drift.svg", curve_pictures.over_drift(curves))
    write_svg(folder / "simulation-accuracy.svg", curve_pictures.accuracy(curves))
    write_svg(folder / "simulation-skips.svg", curve_pictures.skips(curves))
    equal_drift_section(folder, header, figures(curves))
    skips_section(folder, curves)
    claims_section(folder, header, claims(curves))


def points_file(folder: Path, curves: Sequence[Curve]) -> None:
    """Write every point of every curve, over all replies."""
    worlds = curves[0].worlds
    headings = ["curve", "knob", "replies", "right", *(SKIPPED, DRIFT, BOUND, TRUNCATION)]
    headings += [PAYLOAD, *(f"{BYTES_FIGURE}: {world}" for world in worlds)]
    headings += [f"{SPEED_FIGURE}: {world}" for world in worlds]
    rows: list[Sequence[Cell]] = []
    for curve in curves:
        once = np.ones((1, 1 + int(curve.commands.max())))
        shares = [curve.per_token(name, once)[0] for name in (SKIPPED, DRIFT, BOUND, TRUNCATION, PAYLOAD)]
        bytes_up = [curve.per_token(bytes_in(world), once)[0] for world in worlds]
        rates = [1 / curve.per_token(seconds_in(world), once)[0] for world in worlds]
        for row, knob in enumerate(curve.knobs):
            cells = [float(each[row]) for each in (curve.right(once)[0], *shares, *bytes_up, *rates)]
            rows.append((curve.label, knob, len(curve.commands), *(f"{cell:.6g}" for cell in cells)))
    write_csv(folder / "simulation-curves.csv", headings, rows)


def equal_drift_section(folder: Path, header: str, found: Sequence[Figure]) -> None:
    """Write every scheme's figures at the same drifts."""
    rows = [
        (one.level, one.curve, one.name, *_numbers(one.estimate)) for one in found if one.estimate is not None
    ]
    headings = ("drift", "curve", "figure", "value", "low", "high")
    write_csv(folder / "simulation-equal-drift.csv", headings, rows)
    texts = [header]
    for name in dict.fromkeys(one.name for one in found):
        if name == SKIPPED or _left_out(name):
            continue
        chosen = [one for one in found if one.name == name]
        curves = [one for one in dict.fromkeys(each.curve for each in chosen) if _belongs(one, name)]
        table = [[curve, *_cells([one for one in chosen if one.curve == curve])] for curve in curves]
        headings = ("scheme", *(f"drift {100 * level:g} %" for level in LEVELS))
        texts += [f"**{_title(name)}**", markdown_table(headings, table)]
    texts.append("![bytes and tokens/s against drift](simulation-drift.svg)")
    texts.append("![throughput against accuracy](simulation-accuracy.svg)")
    write_section(folder / SWEEPS_PAGE, "curves", "\n\n".join(texts))


def _left_out(name: str) -> bool:
    """Whether the page leaves a figure to the CSV file: bytes hardly vary by link."""
    return name.startswith(BYTES_FIGURE) and NARROW in name


def _belongs(curve: str, name: str) -> bool:
    """Whether a table shows a curve: windows change bytes and speed, and truncation is CU-HLM's."""
    if name in (RIGHT_FIGURE, TRUNCATION, PAYLOAD):
        return "window" not in curve and (name != TRUNCATION or curve.startswith("cu-hlm"))
    return True


def _title(name: str) -> str:
    if name == TRUNCATION:
        return "Drift by truncation on top, % per token"
    if name == RIGHT_FIGURE:
        return "Replies that are exactly right, %"
    if name == PAYLOAD:
        return f"Uplink bytes per token, {PAYLOAD}"
    figure, _, world = name.partition(": ")
    return f"{figure[0].upper()}{figure[1:]}{'' if figure == SPEED_FIGURE else ' per token'}: {world}"


def _cells(found: Sequence[Figure]) -> list[str]:
    return ["-" if one.estimate is None else _interval(one.name, one.estimate) for one in found]


def _interval(name: str, found: Estimate) -> str:
    each = _scaled(found, 100.0) if name in (RIGHT_FIGURE, TRUNCATION) else found
    return f"{shown(each.value)} ({shown(each.low)} to {shown(each.high)})"


def _scaled(one: Estimate, scale: float) -> Estimate:
    return Estimate(scale * one.value, scale * one.low, scale * one.high)


def _numbers(one: Estimate) -> tuple[Cell, ...]:
    return tuple(f"{number:.6g}" for number in (one.value, one.low, one.high))


def skips_section(folder: Path, curves: Sequence[Curve]) -> None:
    """Write what thresholds skip, what that costs, and what the papers' line expects of it."""
    rows: list[Sequence[Cell]] = []
    for curve in curves:
        if curve.label not in SHOWN_SKIPS:
            continue
        once = np.ones((1, 1 + int(curve.commands.max())))
        skipped, drift, bound = (curve.totals(name, once)[0] for name in (SKIPPED, DRIFT, BOUND))
        tokens = curve.totals(TOKENS, once)[0]
        for row, knob in enumerate(curve.knobs):
            if not skipped[row]:
                continue
            truly = f"{100 * (1 - drift[row] / skipped[row]):.2f} %"
            masses = (f"{100 * mass[row] / tokens[row]:.3f} %" for mass in (drift, bound))
            rows.append((curve.label, knob, percent(skipped[row] / tokens[row]), truly, *masses))
    headings = ["scheme", "threshold", "skipped", "rightly skipped", "drift/token", "R(u_th)"]
    picture = "![tokens skipped and their cost](simulation-skips.svg)"
    write_section(folder / SWEEPS_PAGE, "skips", "\n\n".join([markdown_table(headings, rows), picture]))


def claims_section(folder: Path, header: str, found: Sequence[Claim]) -> None:
    """Write every claim to a file, and those at one drift to the page."""
    rows = [
        (
            one.level,
            one.ours,
            one.theirs,
            one.figure,
            *_numbers(one.tested.estimate),
            f"{one.tested.p:.3g}",
            f"{one.tested.adjusted:.3g}",
        )
        for one in found
    ]
    headings = ("drift", "ours", "against", "figure", "value", "low", "high", "p", "p after Holm")
    write_csv(folder / "papers-claims.csv", headings, rows)
    names = list(dict.fromkeys(one.figure for one in found))
    names = [name for name in names if not _left_out(name)]
    by_key = {(one.ours, one.theirs, one.figure): one for one in found if one.level == SHOWN_LEVEL}
    pairs = dict.fromkeys((one.ours, one.theirs) for one in found if one.level == SHOWN_LEVEL)
    table = [
        [ours, theirs, *(_claim_cell(by_key.get((ours, theirs, name))) for name in names)]
        for ours, theirs in pairs
        if ours in SHOWN_OURS
    ]
    about = (
        f"{header} Drift {100 * SHOWN_LEVEL:g} % per token; {len(found):,} comparisons in all, at "
        f"{len(LEVELS)} drifts, corrected together."
    )
    text = "\n\n".join([about, markdown_table(["ours", "against", *names], table)])
    write_section(folder / PAPERS_PAGE, "claims", text)


def _claim_cell(claim: Claim | None) -> str:
    if claim is None:
        return "-"
    found = claim.tested.estimate
    is_accuracy = claim.figure == RIGHT_FIGURE
    text = f"{_scaled(found, 100):+.1f} points" if is_accuracy else f"{found:.2f}"
    return f"**{text}**" if claim.tested.holds else text
