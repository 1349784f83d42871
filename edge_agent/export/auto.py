"""`--precision auto`: the precision that drafts fastest on this machine.

Law: every candidate is exported and measured here, and only the best stays.
"""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from edge_agent.export import ExportReport, Precision, export, make_room

CANDIDATES: tuple[Precision, ...] = ("int8", "int4")
REJECTION_SECONDS = 0.25  # what a rejected token is taken to cost: a round trip and a pass of the target


def export_best(
    source: str, out: Path, *, progress: Callable[[str], None] = lambda _: None, **options: Any
) -> ExportReport:
    """Write model `source` to folder `out` in the best of the candidates; `options` are those of `export`."""
    make_room(out)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as scratch:
        reports = [
            export(source, Path(scratch) / precision, precision, progress=progress, **options)
            for precision in CANDIDATES
        ]
        best = choose(reports)
        for report in reports:
            progress(
                f"{report.precision}: {1000 * report.agreement.step_seconds:.1f} ms per token, "
                f"{1000 * seconds_per_token(report):.1f} ms with its rejections"
            )
        if out.exists():
            out.rmdir()
        best.folder.rename(out)
    return replace(best, folder=out)


def choose(reports: Sequence[ExportReport]) -> ExportReport:
    """The report with the least expected time per token."""
    return min(reports, key=seconds_per_token)


def seconds_per_token(report: ExportReport) -> float:
    """The time of a draft token, with the share of rejections that the rounding adds."""
    agreement = report.agreement
    return agreement.step_seconds + agreement.total_variation * REJECTION_SECONDS
