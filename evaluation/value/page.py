"""Writes the figures of docs/results/value.md, a section per pair, and its picture."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from edge_agent.device.energy import Profile, joules_per_token
from evaluation.reporting.results import Cell, markdown_table, write_csv, write_section, write_svg
from evaluation.value.runs import Cost
from evaluation.value.schemes import EXACT, ways
from evaluation.value.stages import GPU, HERE, Asked, Asking, Found

PAGE = "value.md"
LLM = "llm"
SHOWN_TRIP_MS = 50  # of the table per 1,000 tokens; the first round trip if it is not simulated


def write(
    folder: Path, name: str, header: str, asked: Asked, asking: Asking, board: Profile, found: Found
) -> Path:
    """Write the pair's section and its picture; return the page."""
    trip = SHOWN_TRIP_MS if SHOWN_TRIP_MS in found.costs else asking.round_trips_ms[0]
    parts = (
        header,
        _inputs(asked, asking, board, found),
        f"Per 1,000 tokens, at a round trip of {trip} ms:",
        _costs(found.costs[trip], board),
        "Tokens per second, and seconds to the first token, by round trip:",
        _speeds(found.costs),
        f"Devices that one worker carries at a p99 of {1000 * asking.target:g} ms:",
        _devices(found.devices),
    )
    write_section(folder / PAGE, name, "\n\n".join(parts))
    write_svg(folder / f"value-{name}.svg", picture(found.costs, trip))
    rows = [
        (trip, label, one.rate, one.first_token, *_per_thousand(one), one.drift / one.num_tokens)
        for trip, by_way in found.costs.items()
        for label, one in by_way.items()
    ]
    headings = (
        "round_trip_ms", "scheme", "tokens_per_second", "first_token_s", "pass_s", "judging_s",
        "positions", "bytes_up", "bytes_down", "risk",
    )  # fmt: skip
    write_csv(folder / f"value-{name}.csv", headings, rows)
    return folder / PAGE


def _inputs(asked: Asked, asking: Asking, board: Profile, found: Found) -> str:
    times, kinds = found.times, ", ".join(asked.prompts)
    return (
        f"{asked.num_prompts} prompts ({kinds}), {asked.max_tokens} tokens each, at the model's sampling. "
        f"A draft token takes {1000 * times.draft:.1f} ms, a prompt token on the device "
        f"{1000 * times.prompt:.1f} ms, a pass of the target {1000 * times.fixed:.1f} ms, and "
        f"{1000 * times.per_session:.1f} ms more for each session and {1000 * times.per_token:.2f} ms for "
        f"each position. The link carries {asked.rate_mbps:g} Mbit/s each way. Joules: {board.name}, "
        f"{board.idle:g} W and {board.per_core:g} W for a busy core, by published figures. Each device asks "
        f"{3600 * asking.rate:g} times per hour. On the {GPU} a pass takes {1000 * found.gpu.fixed:.2f} ms "
        f"({found.gpu.source})."
    )


def _per_thousand(one: Cost) -> Sequence[float]:
    sums = (one.pass_seconds, one.judging_seconds, one.num_positions, one.bytes_up, one.bytes_down)
    return [one.per_thousand(each) for each in sums]


def _costs(costs: Mapping[str, Cost], board: Profile) -> str:
    worker = costs[LLM].pass_seconds / costs[LLM].num_tokens
    rows: list[Sequence[Cell]] = []
    for way in ways(None):
        one = costs[way.label]
        passes, judging, positions, up, down = _per_thousand(one)
        seconds, cpu = one.seconds / one.num_tokens, one.draft_seconds / one.num_tokens
        rows.append(
            (
                way.label,
                f"risk {one.drift / one.num_tokens:.4f} per token" if way.drifts else EXACT,
                passes,
                f"{one.pass_seconds / one.num_tokens / worker:.2f}",
                judging,
                round(positions),
                f"{one.num_uplinks / one.num_tokens:.2f}",
                round(up),
                round(down),
                1000 * joules_per_token(board, seconds, cpu),
                f"{one.num_accepted / one.num_tested:.0%}" if one.num_tested else None,
            )
        )
    headings = (
        "scheme", "text", "passes, s", "of llm", "judging, s", "positions", "uplinks per token", "bytes up",
        "bytes down", "device, J", "accepted",
    )  # fmt: skip
    return markdown_table(headings, rows)


def _speeds(costs: Mapping[int, Mapping[str, Cost]]) -> str:
    rows: list[Sequence[Cell]] = []
    for label in next(iter(costs.values())):
        cells: list[Cell] = [label]
        for by_way in costs.values():
            one = by_way[label]
            cells.append(f"{one.rate:.3g} ({one.rate / by_way[LLM].rate:.2f}); {one.first_token:.2f}")
        rows.append(cells)
    headings = ("scheme: tokens/s (of llm); first token, s", *(f"{trip} ms" for trip in costs))
    return markdown_table(headings, rows)


def _devices(devices: Mapping[str, Mapping[str, int | None]]) -> str:
    labels = list(next(iter(devices.values())))
    rows: list[Sequence[Cell]] = [
        (label, *(devices[machine][label] if devices[machine][label] else "none" for machine in (HERE, GPU)))
        for label in labels
    ]
    return markdown_table(("scheme", f"worker on {HERE}", f"worker on an {GPU}"), rows)


def picture(costs: Mapping[int, Mapping[str, Cost]], trip: int) -> Figure:
    """Draw tokens per second over the round trip, and the worker's seconds per 1,000 tokens."""
    figure = Figure(figsize=(9.5, 3.6), layout="constrained")
    rate, worker = figure.subplots(1, 2, width_ratios=(3, 2))
    labels = list(costs[trip])
    for number, label in enumerate(labels):
        rates = [by_way[label].rate for by_way in costs.values()]
        rate.plot(list(costs), rates, marker="os^Dvx*"[number % 7], label=label, linewidth=1.2)
    rate.set(xlabel="round trip, ms", ylabel="tokens/s", ylim=(0, None))
    rate.grid(alpha=0.3)
    rate.legend(fontsize=8)
    seconds = [costs[trip][label].per_thousand(costs[trip][label].pass_seconds) for label in labels]
    worker.barh(labels, seconds, color="#7a9cc6")
    worker.invert_yaxis()
    worker.set(xlabel="seconds of passes per 1,000 tokens")
    worker.grid(visible=True, axis="x", linewidth=0.3)
    return figure
