"""The sections of simulation.md, made from points: Markdown tables, CSV files and pictures.

Law: a table shows the figures of a sweep and computes none of its own.
"""

from collections.abc import Sequence
from pathlib import Path

from evaluation.reporting.results import markdown_table, write_csv, write_section, write_svg
from evaluation.simulate.links import LinkPoint
from evaluation.simulate.pages import pictures
from evaluation.simulate.pages.cells import SPEED_HEADINGS, percent, speed_cells
from evaluation.simulate.sweeps import PAPERS, WIRE, SnrPoint, WindowPoint

PAGE = "simulation.md"


def snr_section(folder: Path, header: str, points: Sequence[SnrPoint]) -> None:
    """Write throughput against SNR, and the bytes of every scheme."""
    rows = [
        (
            one.counting,
            one.bandwidth_mhz,
            one.snr_db,
            one.variant,
            one.block_length,
            *speed_cells(one.speed),
        )
        for one in points
    ]
    headings = ("counting", "bandwidth_mhz", "snr_db", "scheme", "block length", *SPEED_HEADINGS)
    write_csv(folder / "simulation-snr.csv", headings, rows)
    write_svg(folder / "simulation-snr.svg", pictures.throughput_over_snr(points))
    write_svg(folder / "simulation-bytes.svg", pictures.bytes_per_token(points))
    tables = [header]
    for counting in (PAPERS, WIRE):
        for mhz in dict.fromkeys(one.bandwidth_mhz for one in points):
            chosen = [one for one in points if (one.counting, one.bandwidth_mhz) == (counting, mhz)]
            snrs = list(dict.fromkeys(one.snr_db for one in chosen))
            table = [
                [name, *(one.speed.tokens_per_second for one in chosen if one.variant == name)]
                for name in dict.fromkeys(one.variant for one in chosen)
            ]
            title = f"Tokens/s, {mhz:g} MHz, {pictures.COUNTED[counting]}:"
            tables += [title, markdown_table(["scheme", *(f"{snr:g} dB" for snr in snrs)], table)]
    write_section(
        folder / PAGE, "snr", "\n\n".join([*tables, "![throughput against SNR](simulation-snr.svg)"])
    )
    _tuned_section(folder, points)
    middle = pictures.middle(points)
    found = {(one.counting, one.variant): one.speed for one in middle}
    names = list(dict.fromkeys(one.variant for one in middle))
    table = [
        [
            name,
            found[PAPERS, name].bytes_up,
            found[WIRE, name].payload_up,
            found[WIRE, name].bytes_up,
            found[WIRE, name].bytes_down,
            found[WIRE, name].uplinks,
            found[WIRE, name].answers,
        ]
        for name in names
    ]
    headings = ["scheme", "papers' payload", "our payload", "all counted, up", "down", "uplinks", "answers"]
    at = f"Per token, at {middle[0].bandwidth_mhz:g} MHz and {middle[0].snr_db:g} dB:"
    text = [at, markdown_table(headings, table), "![uplink bytes per token](simulation-bytes.svg)"]
    write_section(folder / PAGE, "bytes", "\n\n".join(text))


def _tuned_section(folder: Path, points: Sequence[SnrPoint]) -> None:
    """Write the block lengths that were chosen for the peers."""
    tuned = [one for one in points if one.block_length is not None]
    snrs = list(dict.fromkeys(one.snr_db for one in tuned))
    keys = list(dict.fromkeys((one.counting, one.bandwidth_mhz, one.variant) for one in tuned))
    table = [
        [
            pictures.COUNTED[counting],
            f"{mhz:g} MHz",
            name,
            *(
                one.block_length
                for one in tuned
                if (one.counting, one.bandwidth_mhz, one.variant) == (counting, mhz, name)
            ),
        ]
        for counting, mhz, name in keys
    ]
    shown = ["counted", "bandwidth", "scheme", *(f"{snr:g} dB" for snr in snrs)]
    write_section(folder / PAGE, "block-lengths", markdown_table(shown, table))


def window_section(folder: Path, header: str, points: Sequence[WindowPoint]) -> None:
    """Write throughput against the round trip, one column per window."""
    rows = [(one.round_trip_ms, one.window, *speed_cells(one.speed)) for one in points]
    write_csv(folder / "simulation-window.csv", ("round_trip_ms", "window", *SPEED_HEADINGS), rows)
    write_svg(folder / "simulation-window.svg", pictures.throughput_over_round_trip(points))
    windows = list(dict.fromkeys(one.window for one in points))
    table = [
        [trip, *(one.speed.tokens_per_second for one in points if one.round_trip_ms == trip)]
        for trip in dict.fromkeys(one.round_trip_ms for one in points)
    ]
    shown = ["round trip (ms)", *(f"window {window}" for window in windows)]
    picture = "![throughput against the round trip](simulation-window.svg)"
    write_section(folder / PAGE, "window", "\n\n".join([header, markdown_table(shown, table), picture]))


def link_section(folder: Path, header: str, points: Sequence[LinkPoint]) -> None:
    """Write fixed thresholds beside those that an agent chooses by its link."""
    headings = (
        "kbps",
        "case",
        "last threshold",
        "replies",
        "right",
        "same as greedy",
        "skipped",
        "drift",
        *SPEED_HEADINGS,
    )
    rows = [
        (
            one.kbps,
            one.case,
            one.threshold,
            one.worth.num_replies,
            one.worth.right,
            one.worth.same_as_greedy,
            one.worth.skipped,
            one.worth.drift,
            *speed_cells(one.speed),
        )
        for one in points
    ]
    write_csv(folder / "simulation-links.csv", headings, rows)
    table = [
        [
            f"{one.kbps:g} kbit/s",
            one.case,
            one.threshold,
            one.speed.tokens_per_second,
            one.speed.bytes_up,
            percent(one.worth.skipped),
            percent(one.worth.right),
            f"{100 * one.worth.drift:.2f} %",
        ]
        for one in points
    ]
    shown = ["link", "opportunistic with", "last threshold", "tokens/s", "B up/token", "skipped"]
    shown += ["exactly right", "drift/token"]
    write_section(folder / PAGE, "links", "\n\n".join([header, markdown_table(shown, table)]))
