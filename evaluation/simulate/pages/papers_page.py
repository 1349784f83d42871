"""The sections of papers.md: the papers' table for two vocabularies, the audit, the claims.

Law: a table shows the given figures and computes none of its own.
"""

from collections.abc import Sequence
from pathlib import Path

from evaluation.reporting.resampling import Estimate
from evaluation.reporting.results import Cell, markdown_table, write_csv, write_section
from evaluation.simulate.measures import Speed
from evaluation.simulate.pages import pictures
from evaluation.simulate.pages.cells import percent
from evaluation.simulate.papers import CLAIM_MHZ, AuditRow, Claim, PapersRow, SlowRow

PAGE = "papers.md"


def papers_section(folder: Path, name: str, header: str, rows: Sequence[PapersRow]) -> None:
    """Write the papers' table for one vocabulary."""
    shown = [
        "scheme",
        "skipped",
        "compression",
        "B up/token",
        "B down/token",
        "tokens/s over HLM",
        "mean of rates over HLM",
        "exactly right",
        "of the target's",
        "drift/token",
    ]
    published: list[list[Cell]] = [
        ["U-HLM as published", "45.9 %", "0 %", "-", "-", "2.54x", "-", "-", "97.54 %", "-"],
        ["CU-HLM as published (up to)", "74.8 %", "97.4 %", "-", "-", "206x", "-", "-", "97.4 %", "-"],
    ]
    table: list[list[Cell]] = [
        [
            row.label,
            percent(row.worth.skipped),
            "-" if row.compression is None else f"{100 * row.compression:.2f} %",
            row.speed.bytes_up,
            row.speed.bytes_down,
            f"{row.throughput:.3g}x",
            f"{row.papers_throughput:.3g}x",
            percent(row.worth.right),
            percent(row.accuracy),
            percent(row.worth.drift),
        ]
        for row in rows
    ]
    write_csv(folder / f"papers-{name}.csv", shown, [*published, *table])
    text = markdown_table(shown, [*published, *table])
    write_section(folder / PAGE, name, f"{header}\n\n{text}")


def audit_section(folder: Path, header: str, scheme: str, rows: Sequence[AuditRow]) -> None:
    """Write the same runs on both clocks."""
    shown = [
        "SNR (dB)",
        "HLM tokens/s",
        f"{scheme} tokens/s",
        "ratio, total time",
        "ratio, mean of rates",
        "bound",
    ]
    table = [
        [
            f"{row.snr_db:g}",
            row.hlm,
            row.cu_hlm,
            f"{row.by_time:.3g}x",
            f"{row.by_mean_of_rates:.3g}x",
            f"{row.bound:.3g}x",
        ]
        for row in rows
    ]
    write_csv(folder / "papers-audit.csv", shown, table)
    write_section(folder / PAGE, "audit", "\n\n".join([header, markdown_table(shown, table)]))


def claims_section(folder: Path, header: str, found: Sequence[Claim], slow: Sequence[SlowRow]) -> None:
    """Write which claims hold, and by how much."""
    bandwidths = [f"speed at {mhz:g} MHz" for mhz in CLAIM_MHZ]
    shown = ["counted", "ours", "against", "exactly right", "uplink bytes", *bandwidths, "reached"]
    table = [
        [
            pictures.COUNTED[one.counting],
            one.ours,
            one.baseline,
            f"{points(one.accuracy_gain):+.1f} points",
            f"{one.bytes_ratio:.2f}x",
            *(f"{ratio:.2f}x" for ratio in one.throughput_ratios.values()),
            one.reached,
        ]
        for one in found
    ]
    write_csv(folder / "papers-claims.csv", shown, table)
    slow_headings = [
        "link",
        "blocks",
        "opportunistic: B/token",
        "tokens/s",
        "lossless: B/token",
        "ratio",
        "tokens/s",
        "coupled: B/token",
        "ratio",
        "tokens/s",
    ]
    slow_table = [
        [
            f"{row.kbps:g} kbit/s",
            "adaptive" if row.block_length is None else f"of {row.block_length}, window 1",
            row.opportunistic.bytes_up,
            row.opportunistic.tokens_per_second,
            *_over(row.lossless, row.opportunistic),
            *_over(row.coupled, row.opportunistic),
        ]
        for row in slow
    ]
    write_csv(folder / "papers-slow-links.csv", slow_headings, slow_table)
    text = [header, markdown_table(shown, table), "Uplink bytes per token, everything counted:"]
    write_section(folder / PAGE, "claims", "\n\n".join([*text, markdown_table(slow_headings, slow_table)]))


def points(share: Estimate) -> Estimate:
    """Convert a share to percentage points."""
    return Estimate(100 * share.value, 100 * share.low, 100 * share.high)


def _over(one: Speed, other: Speed) -> tuple[Cell, ...]:
    return one.bytes_up, f"{one.bytes_up / other.bytes_up:.2f}x", one.tokens_per_second
