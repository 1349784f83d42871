"""The blocks of a page, and their two forms: one self-contained HTML page, or Markdown with SVG files."""

import html
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import matplotlib as mpl
from matplotlib.figure import Figure

from evaluation.reporting.results import Cell, markdown_table, shown, write_svg

STYLE = """body{font:16px/1.5 system-ui,sans-serif;max-width:52rem;margin:2rem auto;padding:0 1rem;color:#222}
table{border-collapse:collapse;margin:1rem 0}th,td{padding:.2rem .7rem;border-bottom:1px solid #ccc}
th{text-align:left}td{font-variant-numeric:tabular-nums}svg{max-width:100%;height:auto}
code{background:#f3f3f3;padding:0 .2rem}figcaption{color:#555}figure{margin:1.5rem 0}"""


@dataclass(frozen=True, slots=True)
class Heading:
    """The heading of a part."""

    text: str


@dataclass(frozen=True, slots=True)
class Paragraph:
    """Prose; code is between backticks."""

    text: str


@dataclass(frozen=True, slots=True)
class Table:
    """Figures in rows."""

    headings: Sequence[str]
    rows: Sequence[Sequence[Cell]]


@dataclass(frozen=True, slots=True)
class Picture:
    """A figure with its caption; `name` is that of its file, without extension."""

    name: str
    caption: str
    figure: Figure


Block: TypeAlias = Heading | Paragraph | Table | Picture


def to_markdown(blocks: Sequence[Block], folder: Path) -> str:
    """Return the blocks as Markdown; write the pictures to `folder`, which the page belongs in."""
    return "\n\n".join(_markdown(block, folder) for block in blocks)


def to_html(title: str, blocks: Sequence[Block]) -> str:
    """Return the whole page with its pictures inside; it loads nothing from elsewhere."""
    body = "\n".join(_html(block) for block in blocks)
    head = f'<meta charset="utf-8"><title>{html.escape(title)}</title><style>{STYLE}</style>'
    shown_title = f"<h1>{html.escape(title)}</h1>"
    return f'<!doctype html><html lang="en"><head>{head}</head>\n<body>{shown_title}\n{body}</body></html>\n'


def _markdown(block: Block, folder: Path) -> str:
    match block:
        case Heading():
            return f"### {block.text}"
        case Paragraph():
            return block.text
        case Table():
            return markdown_table(block.headings, block.rows)
        case Picture():
            path = write_svg(folder / f"{block.name}.svg", block.figure)
            return f"![{block.caption}]({path.name})"


def _html(block: Block) -> str:
    match block:
        case Heading():
            return f"<h2>{html.escape(block.text)}</h2>"
        case Paragraph():
            return "<p>" + re.sub(r"`([^`]*)`", r"<code>\1</code>", html.escape(block.text)) + "</p>"
        case Table():
            head = "".join(f"<th>{html.escape(each)}</th>" for each in block.headings)
            rows = ("".join(f"<td>{html.escape(shown(cell))}</td>" for cell in row) for row in block.rows)
            return f"<table><tr>{head}</tr>" + "".join(f"<tr>{row}</tr>" for row in rows) + "</table>"
        case Picture():
            caption = html.escape(block.caption)
            return f"<figure>{_inline(block)}<figcaption>{caption}</figcaption></figure>"


def _inline(picture: Picture) -> str:
    """Return the SVG without the XML prologue, with ids that are unique on the page."""
    text = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": picture.name, "svg.fonttype": "none"}):
        picture.figure.savefig(text, format="svg", bbox_inches="tight", metadata={"Date": None})
    svg = text.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r'\bid="', f'id="{picture.name}-', svg)
    return re.sub(r'(url\(|href=")#', rf"\g<1>#{picture.name}-", svg)
