"""The table of what the schema changes, with intervals."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from common.sampling.randomness import FloatArray
from evaluation.reporting.resampling import Estimate, resample
from evaluation.reporting.results import write_section
from evaluation.structured.answering import Answered, Variant

SECTION = "home"
HEADINGS = ("per command", "without the schema", "with it", "difference")

Row = tuple[str, str, Callable[[Answered], float], Callable[[Answered], float] | None]
ROWS: tuple[Row, ...] = (
    ("right actions", ".1%", lambda one: one.is_right, None),
    ("valid lists", ".1%", lambda one: one.is_valid, None),
    ("tokens", ".1f", lambda one: one.tokens, None),
    ("forced tokens", ".1%", lambda one: one.forced, lambda one: one.tokens),
    ("draft passes", ".1f", lambda one: one.draft_passes, None),
    ("uplinks", ".2f", lambda one: one.uplinks, None),
    ("bytes up and down", ".0f", lambda one: one.bytes_up + one.bytes_down, None),
    ("tokens/s", ".1f", lambda one: one.tokens, lambda one: one.seconds),
)


def write_page(folder: Path, introduction: str, found: Mapping[Variant, Sequence[Answered]], num: int) -> str:
    """Write the section of structured-output.md; returns it. Answers are in the order seed, command."""
    variants = list(found)
    parts = [introduction]
    for without, with_it in zip(variants[::2], variants[1::2], strict=True):
        parts.append(f"**{without.what.capitalize()}**")
        parts.append(_table(found[without], found[with_it], num))
    text = "\n\n".join(parts)
    write_section(folder / "structured-output.md", SECTION, text)
    return text


def _table(without: Sequence[Answered], with_it: Sequence[Answered], num: int) -> str:
    lines = [" | ".join(HEADINGS), " | ".join(("---", "---:", "---:", "---:"))]
    clusters = np.arange(len(without)) % num
    for name, form, numerator, denominator in ROWS:
        columns = [
            np.array([float(one(answer)) for answer in answers])
            for answers in (without, with_it)
            for one in (numerator, denominator or _one)
        ]
        first, second, change = _compared(columns, clusters)
        shown = "-" if first.value == 0 else f"{change:+.1%}"
        lines.append(" | ".join((name, f"{first:{form}}", f"{second:{form}}", shown)))
    return "\n".join(f"| {line} |" for line in lines)


def _one(_answer: Answered) -> float:
    return 1.0


def _compared(columns: list[FloatArray], clusters: np.ndarray) -> tuple[Estimate, Estimate, Estimate]:
    """Both ratios, and the relative difference; all from the same resamples of the commands."""

    def statistics(weights: FloatArray) -> FloatArray:
        sums = [float(np.dot(column, weights)) for column in columns]
        first, second = sums[0] / sums[1], sums[2] / sums[3]
        return np.array([first, second, second / first - 1.0 if first else 0.0])

    found = resample(statistics, clusters)
    return found.estimate(0), found.estimate(1), found.estimate(2)
