"""The pictures of the pages, made from points alone; a scheme has the same colour in all of them."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from edge_agent.policy.schemes import SCHEMES
from evaluation.simulate.sweeps import PAPERS, WIRE, SnrPoint, WindowPoint

_PAPERS_SCHEMES = ("slm", "llm", "hlm", "rand-hlm", "u-hlm", "cu-hlm-offline", "cu-hlm-online")
COUNTED = {PAPERS: "the papers' payload", WIRE: "everything counted"}
_PEERS = ("sd-", "dssd-")
_NAMES = (*SCHEMES, "sd", "dssd")
_MARKS = "osv^D*PXhp<>d"
_COLOURS = (*(f"C{number}" for number in range(10)), "black", "dimgrey")  # one for each name


def throughput_over_snr(points: Sequence[SnrPoint]) -> Figure:
    """Draw tokens over total time, one panel per bandwidth and counting."""
    countings = list(dict.fromkeys(point.counting for point in points))
    bandwidths = list(dict.fromkeys(point.bandwidth_mhz for point in points))
    figure = Figure(figsize=(4.2 * len(bandwidths), 3.6 * len(countings)), layout="constrained")
    panels = figure.subplots(len(countings), len(bandwidths), squeeze=False)
    for counting, row in zip(countings, panels, strict=True):
        for mhz, axes in zip(bandwidths, row, strict=True):
            chosen = [one for one in points if (one.counting, one.bandwidth_mhz) == (counting, mhz)]
            for name in dict.fromkeys(one.variant for one in chosen):
                line = [one for one in chosen if one.variant == name]
                add_line(
                    axes, name, [one.snr_db for one in line], [one.speed.tokens_per_second for one in line]
                )
            axes.set(yscale="log", title=f"{mhz:g} MHz, {COUNTED[counting]}")
            axes.set(xlabel="mean SNR (dB)", ylabel="tokens/s")
    finish(figure, panels[0][-1])
    return figure


def bytes_per_token(points: Sequence[SnrPoint]) -> Figure:
    """Draw the uplink bytes of every scheme, counted both ways, at the middle SNR and bandwidth."""
    chosen = middle(points)
    names = list(dict.fromkeys(point.variant for point in chosen))
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    for shift, counting in ((-0.2, PAPERS), (0.2, WIRE)):
        found = {point.variant: point.speed.bytes_up for point in chosen if point.counting == counting}
        heights = [max(found[name], 0.1) for name in names]
        axes.bar([i + shift for i in range(len(names))], heights, 0.38, label=COUNTED[counting])
    axes.set(yscale="log", ylabel="uplink bytes per token")
    axes.set_xticks(range(len(names)), names, rotation=45, ha="right")
    axes.legend(fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
    axes.grid(alpha=0.3, axis="y")
    return figure


def throughput_over_round_trip(points: Sequence[WindowPoint]) -> Figure:
    """Draw throughput over the round trip, one line per window."""
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    for window in dict.fromkeys(point.window for point in points):
        line = [point for point in points if point.window == window]
        axes.plot(
            [one.round_trip_ms for one in line],
            [one.speed.tokens_per_second for one in line],
            marker="o",
            label=f"window {window}",
        )
    axes.set(xscale="log", xlabel="round trip (ms)", ylabel="tokens/s")
    finish(figure, axes)
    return figure


def middle(points: Sequence[SnrPoint]) -> list[SnrPoint]:
    """Return the points at the middle bandwidth and SNR."""
    bandwidths = sorted({point.bandwidth_mhz for point in points})
    snrs = sorted({point.snr_db for point in points})
    chosen = bandwidths[len(bandwidths) // 2], snrs[len(snrs) // 2]
    return [point for point in points if (point.bandwidth_mhz, point.snr_db) == chosen]


def add_line(axes: Axes, name: str, xs: Sequence[float], ys: Sequence[float]) -> None:
    """Draw the papers' schemes dashed, ours solid, peers dotted; hollow or smaller marks: other settings."""
    base, _, settings = name.partition(",")
    number = _NAMES.index(base.partition("-")[0] if base.startswith(_PEERS) else base)
    kind = "--" if base in _PAPERS_SCHEMES else ":" if base in ("sd", "dssd") else "-"
    shade = 0.45 if "window" in settings else 1.0
    mark = sum(settings.encode()) + number if settings else number
    axes.plot(
        xs,
        ys,
        label=name,
        color=_COLOURS[number],
        linestyle=kind,
        marker=_MARKS[mark % len(_MARKS)],
        markersize=4.0,
        markerfacecolor="none" if settings else _COLOURS[number],
        linewidth=2.0 if kind == "-" else 1.2,
        alpha=shade,
    )


def finish(figure: Figure, axes: Axes) -> None:
    """Add grids, and the legend beside `axes`."""
    for each in figure.axes:
        each.grid(alpha=0.3)
    axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1.0, 0.5))
