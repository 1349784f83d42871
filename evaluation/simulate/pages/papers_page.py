"""The sections of papers.md: the papers' table for two vocabularies, the audit, slow links.

Law: a table shows the given figures and computes none of its own.
"""

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from evaluation.reporting.results import Cell, markdown_table, write_csv, write_section
from evaluation.simulate.measures import Reply, Speed
from evaluation.simulate.pages.cells import percent
from evaluation.simulate.papers import AuditRow, PapersRow, SlowRow
from evaluation.simulate.running import Prompt

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
        "R(u_th)",
        "drift by truncation",
    ]
    published: list[list[Cell]] = [
        ["U-HLM as published", "45.9 %", "0 %", "-", "-", "2.54x", "-", "-", "97.54 %", "-", "-", "-"],
        [
            "CU-HLM as published (up to)",
            "74.8 %",
            "97.4 %",
            "-",
            "-",
            "206x",
            "-",
            "-",
            "97.4 %",
            "-",
            "-",
            "-",
        ],
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
            _mass(row.worth.drift),
            _mass(row.bound),
            _mass(row.worth.truncation) if row.worth.truncation else "-",
        ]
        for row in rows
    ]
    write_csv(folder / f"papers-{name}.csv", shown, [*published, *table])
    text = markdown_table(shown, [*published, *table])
    write_section(folder / PAGE, name, f"{header}\n\n{text}")


def replies_file(
    folder: Path, rows: Sequence[PapersRow], prompts: Sequence[Prompt], num_commands: int
) -> None:
    """Write what each reply of the table is worth, so that its intervals can be derived again."""
    names = [field.name for field in fields(Reply)]
    lines = [
        (row.label, number % num_commands, prompt.seed, *(_plain(getattr(reply, name)) for name in names))
        for row in rows
        for number, (prompt, reply) in enumerate(zip(prompts, row.worth.replies, strict=True))
    ]
    write_csv(folder / "papers-replies.csv", ("scheme", "command", "seed", *names), lines)


def _plain(value: float) -> Cell:
    return int(value) if isinstance(value, bool | int) else f"{value:.6g}"


def _mass(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.3f} %"


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


def slow_section(folder: Path, header: str, slow: Sequence[SlowRow]) -> None:
    """Write the bytes of the lossless schemes on slow links."""
    headings = [
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
    table = [
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
    write_csv(folder / "papers-slow-links.csv", headings, table)
    write_section(folder / PAGE, "slow-links", "\n\n".join([header, markdown_table(headings, table)]))


def _over(one: Speed, other: Speed) -> tuple[Cell, ...]:
    return one.bytes_up, f"{one.bytes_up / other.bytes_up:.2f}x", one.tokens_per_second
