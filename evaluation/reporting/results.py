"""Pages of results: Markdown tables, CSV files and SVG pictures, below a header with the command.

Law: the figures on a page stand between marks and are written by the command that measured them. The prose
around them is written by people, and running the command again does not touch it.
"""

import csv
import io
import os
import platform
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_ROOT = Path(__file__).parents[2]
_IS_CHECKOUT = (_ROOT / "pyproject.toml").is_file() and (_ROOT / "docs" / "results").is_dir()
CHECKOUT = _ROOT if _IS_CHECKOUT else None  # None where the package is installed without its repository
RESULTS = CHECKOUT / "docs" / "results" if CHECKOUT else Path.cwd() / "results"
RESULTS_HELP = "default: docs/results in a checkout, elsewhere ./results"
_PACKAGES = ("numpy", "torch", "onnxruntime")

Cell = str | int | float | None


class ResultsError(ValueError):
    """A page that cannot be written; the message is one line with the reason."""


def header(command: str) -> str:
    """Return the command that made the figures below, its date, machine and versions."""
    versions = ", ".join(f"{name} {version(name)}" for name in _PACKAGES)
    return (
        f"`{command}`, {datetime.now(UTC):%Y-%m-%d}, on {os.cpu_count()} cores of {processor()}{_gpus()}, "
        f"Python {platform.python_version()}, {versions}."
    )


def processor() -> str:
    """Return the name of the processor."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        found = re.search(r"^model name\s*:\s*(.+)$", cpuinfo.read_text(), re.MULTILINE)
        if found:
            return f"{found[1].strip()} ({platform.machine()})"
    return platform.processor() or platform.machine()


def _gpus() -> str:
    """Return " and NVIDIA ..." with the name of each GPU that NVIDIA's driver shows."""
    found = [
        named[1].strip()
        for file in sorted(Path("/proc/driver/nvidia/gpus").glob("*/information"))
        if (named := re.search(r"^Model:(.+)$", file.read_text(), re.MULTILINE))
    ]
    return "".join(f" and {name}" for name in found)


def shown(cell: Cell) -> str:
    """Format a figure for a reader: three significant digits, separated thousands, a dash for None."""
    if cell is None:
        return "-"
    if isinstance(cell, int):
        return f"{cell:,}"
    if isinstance(cell, str):
        return cell
    if abs(cell) >= 1000:
        return f"{cell:,.0f}"
    return f"{cell:.3g}"


def markdown_table(headings: Sequence[str], rows: Sequence[Sequence[Cell]]) -> str:
    """Return a Markdown table; text is left-aligned, figures are right-aligned."""
    is_text = [any(isinstance(row[column], str) for row in rows) for column in range(len(headings))]
    rules = ["---" if text else "---:" for text in is_text]
    lines = [headings, rules, *([shown(cell) for cell in row] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def write_csv(path: Path, headings: Sequence[str], rows: Sequence[Sequence[Cell]]) -> Path:
    """Write a CSV file with all digits; return `path`."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(headings)
    writer.writerows(rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text.getvalue(), encoding="utf-8")
    return path


def write_svg(path: Path, figure: "Figure") -> Path:
    """Write a picture; return `path`. Equal figures give equal files, so running it again changes nothing."""
    import matplotlib

    path.parent.mkdir(parents=True, exist_ok=True)
    with matplotlib.rc_context({"svg.hashsalt": path.name, "svg.fonttype": "none"}):
        figure.savefig(path, format="svg", bbox_inches="tight", metadata={"Date": None})
    return path


def write_section(page: Path, name: str, text: str) -> None:
    """Put `text` between the page's marks `<!-- begin NAME -->` and `<!-- end NAME -->`.

    A missing page is created, and a page without the marks gets them at its end. ResultsError if one mark is
    missing.
    """
    begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
    old = page.read_text(encoding="utf-8") if page.exists() else ""
    if begin not in old and end not in old:
        old += f"\n{begin}\n{end}\n" if old else f"{begin}\n{end}\n"
    before, found_begin, rest = old.partition(begin)
    _, found_end, after = rest.partition(end)
    if not (found_begin and found_end):
        raise ResultsError(f"{page} needs {begin} followed by {end}: put them where the figures belong")
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(f"{before}{begin}\n\n{text.strip()}\n\n{end}{after}", encoding="utf-8")
