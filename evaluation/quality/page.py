"""The page of the command: the figures of all variants as Markdown tables, a picture and a CSV file."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

from edge_agent.policy.schemes import SCHEMES, Form, Gate
from evaluation.quality.pictures import tradeoff
from evaluation.quality.scores import Score
from evaluation.quality.variants import Variant
from evaluation.reporting.resampling import Estimate
from evaluation.reporting.results import Cell, markdown_table, write_csv, write_section, write_svg

Scored: TypeAlias = Sequence[tuple[Variant, Score]]


def table(scored: Scored) -> str:
    """Return a Markdown table with one row per variant."""
    headings = (
        "scheme",
        "threshold",
        "exact match, %",
        "difference to the target, points",
        "of the target's, %",
        "same tokens, %",
        "same text, %",
        "skipped",
        "measured risk",
    )
    rows: list[Sequence[Cell]] = [
        (
            f"`{variant.scheme}`",
            _threshold(variant),
            f"{_percent(each.accuracy):.1f}",
            f"{_percent(each.difference):+.1f}",
            f"{_percent(each.relative):.1f}",
            f"{_percent(each.same_tokens):.1f}",
            f"{_percent(each.same_text):.1f}",
            f"{each.skipped:.3f}",
            None if each.measured_risk is None else f"{each.measured_risk:.4f}",
        )
        for variant, each in scored
    ]
    return markdown_table(headings, rows)


def _threshold(variant: Variant) -> str | None:
    if SCHEMES[variant.scheme].gate is not Gate.UNCERTAIN:
        return None
    scheme = SCHEMES[variant.scheme]
    has_k = scheme.form is Form.TOP_K and not scheme.adaptive_k
    ids = f", k = {variant.max_ids}" if has_k else ""
    return f"{variant.threshold:.4g}{ids} ({variant.choice})"


def _percent(share: Estimate) -> Estimate:
    return Estimate(100 * share.value, 100 * share.low, 100 * share.high)


def write_page(folder: Path, introduction: str, scored_of: Mapping[str, Scored]) -> None:
    """Write quality.md, quality.svg and quality.csv; the picture shows the first entry of `scored_of`."""
    picture = write_svg(folder / "quality.svg", tradeoff(next(iter(scored_of.values()))))
    text = [
        introduction,
        f"![Exact match against the share of tokens that the target model sees]({picture.name})",
    ]
    for title, scored in scored_of.items():
        text += [f"### {title}", table(scored)]
    write_section(folder / "quality.md", "quality", "\n\n".join(text))
    _write_csv(folder / "quality.csv", scored_of)


def _write_csv(path: Path, scored_of: Mapping[str, Scored]) -> None:
    estimates = ("accuracy", "difference", "relative", "same_tokens", "same_text")
    plain = ("num_answers", "skipped", "measured_risk")
    limits = [f"{name}_{end}" for name in estimates for end in ("value", "low", "high")]
    rows: list[Sequence[Cell]] = [
        (
            title,
            variant.scheme,
            variant.choice,
            variant.threshold,
            *(getattr(getattr(each, name), end) for name in estimates for end in ("value", "low", "high")),
            *(getattr(each, name) for name in plain),
        )
        for title, scored in scored_of.items()
        for variant, each in scored
    ]
    write_csv(path, ("sampling", "scheme", "choice", "threshold", *limits, *plain), rows)
