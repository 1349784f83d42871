"""The page of the command: the figures of all settings as Markdown tables, pictures and a CSV file."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from edge_agent.policy.schemes import SCHEMES, Form, Gate
from evaluation.quality.equal_drift import OURS, AtLevel, compare, curves
from evaluation.quality.pictures import equal_drift, tradeoff
from evaluation.quality.reply import Replies
from evaluation.quality.scores import Score
from evaluation.quality.setting import CURVE, GREEDY, SAMPLED, VOTE, Setting
from evaluation.reporting.resampling import Estimate
from evaluation.reporting.results import Cell, markdown_table, write_csv, write_section, write_svg
from evaluation.reporting.significance import LEVEL

TITLES = {SAMPLED: "Sampled", GREEDY: "Greedy"}


def table(scored: Sequence[Score]) -> str:
    """Return a Markdown table with one row per setting, without the additional thresholds."""
    headings = (
        "scheme",
        "setting",
        "exact match, %",
        "difference to the target, points",
        "p (Holm)",
        "of the target's, %",
        "same tokens, %",
        "same text, %",
        "sent",
        "drift per token",
        "the papers' bound",
        "bias per token",
    )
    rows: list[Sequence[Cell]] = [
        (
            f"`{each.setting.scheme}`",
            _numbers(each.setting),
            f"{_percent(each.accuracy):.1f}",
            f"{_percent(each.difference):+.1f}",
            _p_value(each.adjusted),
            f"{_percent(each.relative):.1f}",
            f"{_percent(each.same_tokens):.1f}",
            f"{_percent(each.same_text):.1f}",
            f"{each.sent:.3f}",
            f"{each.drift:.5f}",
            f"{each.bound:.5f}" if each.setting.has_threshold and each.sent < 1.0 else None,
            f"{each.bias:.5f}" if _is_biased(each.setting) else None,
        )
        for each in scored
        if each.setting.choice != CURVE
    ]
    return markdown_table(headings, rows)


def _is_biased(setting: Setting) -> bool:
    return SCHEMES[setting.scheme].form is Form.TOP_K and setting.sampling == SAMPLED


def _p_value(adjusted: float | None) -> str | None:
    if adjusted is None:
        return None
    return f"**{adjusted:.4f}**" if adjusted < LEVEL else f"{adjusted:.2f}"


def _numbers(setting: Setting) -> str:
    scheme = SCHEMES[setting.scheme]
    parts: list[str] = []
    if scheme.gate is Gate.COIN:
        parts.append(f"r = {setting.uplink_probability:.3f}")
    if setting.has_threshold:
        parts.append(f"u > {setting.threshold:.4g}")
    if scheme.form is Form.TOP_K and not scheme.adaptive_k:
        parts.append(f"k = {setting.max_ids}")
    if setting.estimator == VOTE:
        parts.append("20 votes")
    return f"{', '.join(parts)} ({setting.choice})" if parts else "-"


def _percent(share: Estimate) -> Estimate:
    return Estimate(100 * share.value, 100 * share.low, 100 * share.high)


def drift_table(found: Sequence[AtLevel]) -> str:
    """Return a Markdown table with each family at each level of drift."""
    headings = (
        "drift per token",
        "scheme",
        "sent",
        "exact match, %",
        f"minus `{OURS}`, points",
        "same text, %",
        f"minus `{OURS}`, points ",
    )
    rows: list[Sequence[Cell]] = [
        (
            f"{each.level:g}",
            f"`{each.family}`",
            f"{each.sent:.3f}",
            f"{100 * each.right:.1f}",
            _difference(each.right_difference),
            f"{100 * each.same_text:.1f}",
            _difference(each.text_difference),
        )
        for each in sorted(found, key=lambda each: each.level)
    ]
    return markdown_table(headings, rows)


def _difference(found: Estimate | None) -> str | None:
    return None if found is None else f"{_percent(found):+.1f}"


def write_page(folder: Path, introduction: str, replies: Replies, scored: Sequence[Score]) -> None:
    """Write quality.md, its pictures and quality.csv."""
    sampled = [each for each in scored if each.setting.sampling == SAMPLED]
    picture = write_svg(
        folder / "quality.svg", tradeoff([each for each in sampled if each.setting.choice != CURVE])
    )
    text = [
        introduction,
        f"![Exact match against the share of tokens that the target model sees]({picture.name})",
    ]
    for sampling, title in TITLES.items():
        text += [
            f"### {title}",
            table([each for each in scored if each.setting.sampling == sampling]),
            f"**Bold**: the difference to the target stands, at {LEVEL:g} after Holm's correction for all "
            "rows of this table.",
        ]
    at_levels = compare(replies, scored)
    if at_levels:
        shown = write_svg(folder / "quality-drift.svg", equal_drift(curves(scored)))
        text += [
            "### At equal drift",
            drift_table(at_levels),
            f"![What is sent, and how often the text is the target's, against measured drift]({shown.name})",
        ]
    write_section(folder / "quality.md", "quality", "\n\n".join(text))
    _write_csv(folder / "quality.csv", scored)


def _write_csv(path: Path, scored: Sequence[Score]) -> None:
    estimates = ("accuracy", "difference", "relative", "same_tokens", "same_text")
    plain = ("num_replies", "p_value", "adjusted", "sent", "drift", "bound", "bias")
    names = tuple(asdict(scored[0].setting))
    limits = [f"{name}_{end}" for name in estimates for end in ("value", "low", "high")]
    rows: list[Sequence[Cell]] = [
        (
            *asdict(each.setting).values(),
            *(getattr(getattr(each, name), end) for name in estimates for end in ("value", "low", "high")),
            *(getattr(each, name) for name in plain),
        )
        for each in scored
    ]
    write_csv(path, (*names, *limits, *plain), rows)
