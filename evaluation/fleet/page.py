"""The page of the command, docs/results/fleet.md: schemes, curves, sizes and slices.

Law: each table is simulated by the command in its header; no figure on the page is typed by hand.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from evaluation.fleet.inputs import Inputs
from evaluation.fleet.pictures import curves, sizes
from evaluation.fleet.sizing import enough_brokers, enough_workers
from evaluation.fleet.summary import first_to_break
from evaluation.fleet.world.simulation import Effort, Load, Outcome, Site, simulate
from evaluation.reporting.results import (
    RESULTS,
    Cell,
    header,
    markdown_table,
    write_csv,
    write_section,
    write_svg,
)

PAGE = RESULTS / "fleet.md"
ASSUMED = "assumed-h100-llama-8b"
FLEETS = (10, 100, 1000, 10_000, 100_000, 1_000_000)
SCHEMES = ("llm", "hlm", "u-hlm", "opportunistic", "lossless", "coupled")
CURVE = (0.1, 0.25, 0.5, 0.7, 0.85, 1.0, 1.1, 1.25)  # as shares of what the pool carries
SCHEME_DEVICES = 50_000  # enough for most pools to have several workers
POINT = (
    "workers",
    "devices",
    "p50 ms",
    "p99 ms",
    "tokens/s",
    "uplinks/s",
    "Mbit/s up",
    "busy",
    "batch",
    "turned away",
)


@dataclass(frozen=True, slots=True)
class Plan:
    """What the flags ask for; `target` is the p99 in seconds, `command` the command that was typed."""

    load: Load
    site: Site
    effort: Effort
    target: float
    inputs: Inputs
    command: str


@dataclass(frozen=True, slots=True)
class Sized:
    """A fleet and the site that was found for it."""

    load: Load
    site: Site
    outcome: Outcome


def write_page(plan: Plan) -> Path:
    """Simulate everything and write page, CSV files and pictures; if stopped, finished sections stay."""
    with tqdm(desc="operating points", unit="", leave=False) as bar:
        _write_inputs(plan)
        schemes = _schemes(plan, bar)
        _write_schemes(plan, "schemes", schemes)
        _write_curve(plan, list(capacity_curve(plan, schemes["lossless"], bar)))
        _write_sizes(plan, "sizes", _sizes(plan, bar))
        _write_slices(list(slice_check(plan, schemes["lossless"], bar)))
        time = replace(plan.site.worker_time, passes=plan.inputs.targets[ASSUMED])
        assumed = replace(plan, site=replace(plan.site, worker_time=time))
        _write_schemes(assumed, "assumed-schemes", _schemes(assumed, bar))
        _write_sizes(assumed, "assumed-sizes", _sizes(assumed, bar))
    return PAGE


def _sizes(plan: Plan, bar: "tqdm[Any]") -> list[Sized]:
    found = (size(plan, replace(plan.load, num_devices=count), bar) for count in FLEETS)
    return [each for each in found if each]


def _schemes(plan: Plan, bar: "tqdm[Any]") -> dict[str, Sized]:
    load = replace(plan.load, num_devices=SCHEME_DEVICES)
    found = {name: size(plan, replace(load, scheme=plan.inputs.schemes[name]), bar) for name in SCHEMES}
    return {name: each for name, each in found.items() if each}


def size(plan: Plan, load: Load, bar: "tqdm[Any]") -> Sized | None:
    """Find the brokers and workers that the load needs; None if no pool meets the target."""

    def on_outcome(outcome: Outcome) -> None:
        bar.set_postfix_str(f"{outcome.num_devices:,} devices, {outcome.num_workers} workers")
        bar.update()

    site = replace(plan.site, num_brokers=enough_brokers(load, plan.site, plan.effort))
    outcome = enough_workers(load, site, plan.effort, plan.target, on_outcome)
    return Sized(load, replace(site, num_workers=outcome.num_workers), outcome) if outcome else None


def capacity_curve(plan: Plan, sized: Sized, bar: "tqdm[Any]") -> Iterator[Outcome]:
    """Simulate the same pool under growing fleets, up to more than it carries."""
    for share in CURVE:
        load = replace(sized.load, num_devices=int(share * sized.load.num_devices))
        yield simulate(load, sized.site, plan.effort)
        bar.update()


def slice_check(plan: Plan, sized: Sized, bar: "tqdm[Any]") -> Iterator[Outcome]:
    """Simulate the same fleet with all its workers, and with slices of them."""
    factor = max(1, 16 // sized.outcome.num_workers)
    load = replace(sized.load, num_devices=factor * sized.load.num_devices)
    site = replace(sized.site, num_workers=factor * sized.outcome.num_workers)
    for count in (site.num_workers, 8, 4, 2):
        yield simulate(load, site, replace(plan.effort, max_workers=count))
        bar.update()


def point(outcome: Outcome) -> list[Cell]:
    """Return the cells of POINT."""
    return [
        outcome.num_workers,
        outcome.num_devices,
        _ms(outcome.p50),
        _ms(outcome.p99),
        outcome.tokens_per_second,
        outcome.uplinks_per_second,
        outcome.megabits_up,
        f"{outcome.worker_load:.0%}",
        outcome.batch,
        f"{outcome.busy_share:.1%}",
    ]


def _write_sizes(plan: Plan, section: str, sized: Sequence[Sized]) -> None:
    headings = ["devices", "workers", "brokers", *POINT[2:], "broker busy", "full first", "at devices"]
    rows: list[list[Cell]] = []
    for each in sized:
        name, breaks_at = first_to_break(each.outcome, each.load, each.site)
        busy = f"{each.outcome.broker_load:.1%}"
        rows.append(
            [
                each.load.num_devices,
                each.site.num_workers,
                each.site.num_brokers,
                *point(each.outcome)[2:],
                busy,
                name,
                breaks_at,
            ]
        )
    _section(plan, section, headings, rows)
    figure = sizes([(each.load.num_devices, each.site.num_workers, each.site.num_brokers) for each in sized])
    write_svg(RESULTS / f"fleet_{section}.svg", figure)


def _write_schemes(plan: Plan, section: str, schemes: dict[str, Sized]) -> None:
    headings = [
        "scheme",
        "devices/worker",
        "passes/token",
        "uplinks/token",
        "B up/token",
        "acceptance rate",
    ]
    headings += ["p50 ms", "p99 ms", "session p50 s", "tokens/s", "batch"]
    rows: list[list[Cell]] = []
    for name, each in schemes.items():
        found = each.outcome
        per_token = 1 / (each.load.sessions_per_second * each.load.scheme.mean_tokens)  # tokens asked for
        jobs = found.worker_load * found.num_workers * found.batch
        rows.append(
            [
                name,
                each.load.num_devices // found.num_workers,
                jobs * per_token / max(1e-9, found.pass_seconds),
                found.uplinks_per_second * per_token,
                found.megabits_up * 125_000 * per_token,
                each.load.scheme.acceptance_rate,
                _ms(found.p50),
                _ms(found.p99),
                found.session_p50,
                found.tokens_per_second,
                found.batch,
            ]
        )
    _section(plan, section, headings, rows)


def _write_curve(plan: Plan, curve: Sequence[Outcome]) -> None:
    _section(plan, "curve", list(POINT), [point(each) for each in curve])
    write_svg(RESULTS / "fleet_curve.svg", curves(curve, plan.target, plan.site.limits.max_batch))


def _write_slices(slices: Sequence[Outcome]) -> None:
    rows = [[each.num_simulated, *point(each)] for each in slices]
    write_section(PAGE, "slices", markdown_table(["simulated", *POINT], rows))
    write_csv(RESULTS / "fleet_slices.csv", ["simulated", *POINT], rows)


def _section(plan: Plan, name: str, headings: Sequence[str], rows: Sequence[Sequence[Cell]]) -> None:
    write_section(PAGE, name, f"{header(plan.command)}\n\n{markdown_table(headings, rows)}")
    write_csv(RESULTS / f"fleet_{name}.csv", headings, rows)


def _write_inputs(plan: Plan) -> None:
    broker, loop = plan.inputs.broker, plan.inputs.loop
    hops = sorted(broker.hops)
    lines = [
        plan.inputs.source,
        "",
        f"* Broker ({broker.source}): {1e6 * broker.per_message:.1f} us of processor time per message, "
        f"{1e6 * broker.per_ping:.1f} us per ping, {1e3 * hops[len(hops) // 2]:.2f} ms per hop (p50), "
        f"{broker.connection_bytes:,.0f} bytes of memory per connection.",
        f"* The worker's loop ({loop.source}): reading {1e3 * loop.reading:.2g} ms per draft and "
        f"{1e3 * loop.reading_a_pass:.2g} ms per pass, answering {1e3 * loop.answering:.2g} ms per draft "
        f"and {1e3 * loop.answering_a_pass:.2g} ms per pass.",
    ]
    for name, each in plan.inputs.targets.items():
        ratios = sorted(each.ratios)
        lines.append(
            f"* `{name}` ({each.source}): {1e3 * each.fixed:.3g} ms + {1e3 * each.per_session:.3g} ms per "
            f"session + {1e3 * each.per_token:.3g} ms per token, times {ratios[0]:.3g} to {ratios[-1]:.3g}; "
            f"reading drafts {'does not slow' if each.leaves_core else 'slows'} the pass."
        )
    write_section(PAGE, "inputs", "\n".join(lines))


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else 1000 * seconds
