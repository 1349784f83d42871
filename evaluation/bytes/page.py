"""The page of the command: tables, CSV files and a picture, below the command that made them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil, log2
from pathlib import Path

from matplotlib.figure import Figure

from common.sampling.distribution import LATTICE_TOTALS
from evaluation.bytes.counting import Bytes, Times, bound_of
from evaluation.reporting.results import Cell, header, markdown_table, write_csv, write_section, write_svg

PAPERS_PROB_BITS = 8
BYTES_HEADINGS = (
    "distributions",
    "ids",
    "plain",
    "packed",
    "bound",
    "CBOR, plain",
    "CBOR, packed",
    "MQTT, plain",
    "MQTT, packed",
    "packet, plain",
    "packet, packed",
)
GRID_HEADINGS = (
    "k",
    "l",
    "ids",
    "plain",
    "packed",
    "bound",
    "us to encode, plain",
    "us to encode, packed",
    "us to decode, plain",
    "us to decode, packed",
)
_PARTS = (("distributions", "tab:blue"), ("CBOR and other fields", "tab:orange"), ("MQTT", "tab:gray"))


@dataclass(frozen=True, slots=True)
class GridRow:
    """The figures of messages with one k and one total."""

    k: int
    total: int
    num_bytes: Bytes
    times: Times


def write_page(
    folder: Path,
    table: Mapping[str, Bytes],
    grid: Sequence[GridRow],
    *,
    max_ids: int,
    vocab_size: int,
    command: str,
) -> None:
    """Write bytes.md, its CSV files and bytes.svg to `folder`; prose on the page stays."""
    rows = [_bytes_row(name, one) for name, one in table.items()]
    grid_rows = [_grid_row(one) for one in grid]
    write_csv(folder / "bytes.csv", BYTES_HEADINGS, rows)
    write_csv(folder / "bytes-grid.csv", GRID_HEADINGS, grid_rows)
    write_svg(folder / "bytes.svg", picture(table))
    total = LATTICE_TOTALS[0]
    papers = max_ids * (PAPERS_PROB_BITS + ceil(log2(vocab_size))) / 8
    bound = bound_of(max_ids, total, vocab_size)
    text = (
        f"{header(command)}\n\n"
        f"Bytes per verified token, k = {max_ids}, l = {total}. For {max_ids} of {vocab_size:,} ids "
        f"the bound is {bound:.1f} bytes, or {bound - log2(max_ids) / 8:.1f} without the drawn token; the "
        f"papers count {papers:g} without it.\n\n"
        f"{markdown_table(BYTES_HEADINGS, rows)}\n\n"
        "![Bytes of an uplink packet by part](bytes.svg)\n\n"
        f"Other k and l: the middle Zipf distribution over {vocab_size:,} ids, one token per message; times "
        "are medians.\n\n"
        f"{markdown_table(GRID_HEADINGS, grid_rows)}"
    )
    write_section(folder / "bytes.md", "bytes", text)


def picture(table: Mapping[str, Bytes]) -> Figure:
    """Draw two bars per row of the table, plain above packed, with a mark at the bound."""
    figure = Figure(figsize=(8, 0.75 * len(table) + 1.2), layout="constrained")
    axes = figure.subplots()
    for place, one in enumerate(table.values()):
        plain = (one.plain, one.cbor_plain, one.mqtt_plain)
        packed = (one.packed, one.cbor_packed, one.mqtt_packed)
        for offset, parts in ((-0.2, plain), (0.2, packed)):
            left = 0.0
            for width, (_, colour) in zip(parts, _PARTS, strict=True):
                axes.barh(place + offset, width, 0.36, left=left, color=colour)
                left += width
        axes.plot([one.bound] * 2, [place - 0.4, place + 0.4], color="black", linestyle="--")
    for label, colour in _PARTS:
        axes.barh(0, 0, color=colour, label=label)
    axes.plot([], [], color="black", linestyle="--", label="information bound")
    axes.set_yticks(range(len(table)), list(table))
    axes.invert_yaxis()
    axes.set(xlabel="bytes per verified token (upper bar: plain, lower bar: packed)")
    axes.legend(frameon=False)
    return figure


def _bytes_row(name: str, one: Bytes) -> list[Cell]:
    return [
        name,
        one.num_ids,
        one.plain,
        one.packed,
        one.bound,
        one.cbor_plain,
        one.cbor_packed,
        one.mqtt_plain,
        one.mqtt_packed,
        one.total_plain,
        one.total_packed,
    ]


def _grid_row(row: GridRow) -> list[Cell]:
    one, times = row.num_bytes, row.times
    return [
        row.k,
        row.total,
        one.num_ids,
        one.plain,
        one.packed,
        one.bound,
        times.encode_plain,
        times.encode_packed,
        times.decode_plain,
        times.decode_packed,
    ]
