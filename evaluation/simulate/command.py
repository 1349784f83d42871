"""Simulate schemes over channels and speeds, with real logits and the real code of both ends.

    python -m evaluation simulate compare --rate-kbps 100 --delay-ms 40     # one link, a table on the screen
    python -m evaluation simulate compare --trace uplink.csv                # a recorded link: t_s,ul_mbps
    python -m evaluation simulate sweeps       # SNR, round trips, prices: docs/results/simulation.md
    python -m evaluation simulate papers       # the papers' table: docs/results/papers.md
    python -m evaluation simulate curves       # equal drift, and the claims: a part of both pages
    python -m evaluation simulate pages        # all three
    python -m evaluation simulate intervals    # the last part of curves again, from the replies in --out

The models run once per text and their logits are kept (--cache), so a second run takes a fraction of the time
and an interrupted run resumes.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace

from cloud_worker.target_model import TargetModelError
from common.process.paths import path_flag
from common.process.settings import SettingsError
from edge_agent.errors import AgentError
from edge_agent.policy.schemes import SCHEMES
from evaluation.models.pair import Pair, add_pair_flags, open_pair
from evaluation.reporting.results import RESULTS, RESULTS_HELP, Cell, ResultsError, header, markdown_table
from evaluation.simulate.measures import speed
from evaluation.simulate.model_times import measure
from evaluation.simulate.pages.cells import SPEED_HEADINGS, percent, speed_cells
from evaluation.simulate.pages.curves_page import write_curve_sections
from evaluation.simulate.pages.writing import write_curves, write_papers, write_sweeps
from evaluation.simulate.replies import FILE_NAME, read_replies
from evaluation.simulate.running import World
from evaluation.simulate.study import BROKER_SECONDS, DOWN_SEED, Study
from evaluation.simulate.variants import PEERS
from evaluation.simulate.world.accounting import PAPERS_VOCAB_SIZE, Papers, Wire
from evaluation.simulate.world.channel import Channel, Direction, FadingRate, FixedRate, Rate, TraceRate
from evaluation.simulate.world.compute import PROFILES, Compute
from evaluation.smart_home.held_out import held_out

PAGES = {
    "sweeps": (write_sweeps,),
    "papers": (write_papers,),
    "curves": (write_curves,),
    "pages": (write_sweeps, write_papers, write_curves),
}
INTERVALS = "intervals"
SETTINGS = ("max_ids", "rejection_cost")  # flags that go to every agent
VARIANTS = (*SCHEMES, *PEERS)


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of the command, in groups."""
    parser.add_argument("what", choices=("compare", *PAGES, INTERVALS), help="one table, or pages of results")
    add_pair_flags(parser)
    parser.add_argument(
        "--schemes",
        "--ways",  # its name until 0.1
        default=",".join(VARIANTS),
        help="schemes and peers (sd-4; sd and dssd: the block length that is fastest), separated by commas",
    )
    parser.add_argument("--commands", type=int, default=200, help="held-out commands to answer")
    parser.add_argument(
        "--seeds", type=int, default=3, help="times that each command is asked, for papers and curves"
    )
    parser.add_argument("--seed", type=int, default=1, help="seed of the first command; the others count up")
    parser.add_argument("--temperature", type=float, default=1.0, help="sampling temperature")
    parser.add_argument(
        "--max-ids", type=int, help="k; 0: by the price of bytes (default: the scheme's or its calibration's)"
    )
    parser.add_argument(
        "--rejection-cost",
        type=float,
        help="seconds that a skipped rejection costs, to weigh against the link; for schemes that skip",
    )
    parser.add_argument(
        "--sweep-commands", type=int, default=40, help="commands per point of a sweep, of the held-out ones"
    )
    parser.add_argument(
        "--out", type=path_flag, default=RESULTS, help=f"folder for the pages ({RESULTS_HELP})"
    )
    speeds = parser.add_argument_group("model times")
    speeds.add_argument(
        "--profile", default="orin-h100", choices=("measured", *PROFILES), help="device and server"
    )
    speeds.add_argument("--draft-ms", type=float, help="time per draft token, instead of the profile's")
    speeds.add_argument("--pass-ms", type=float, help="time per forward pass, instead of the profile's")
    link = parser.add_argument_group("link, for compare")
    link.add_argument(
        "--rate-kbps",
        type=float,
        help="fixed rate in both directions, or of the downlink with --trace (default: no limit)",
    )
    link.add_argument("--trace", type=path_flag, help="CSV file (t_s,ul_mbps) with the rate of the uplink")
    link.add_argument(
        "--bandwidth-mhz", type=float, help="rate W log2(1 + SNR) with Rayleigh fading, in both directions"
    )
    link.add_argument("--snr-db", type=float, default=5.0, help="mean SNR")
    link.add_argument("--delay-ms", type=float, default=10.0, help="one-way delay; applies to pages too")
    link.add_argument("--jitter-ms", type=float, default=0.0, help="at most this is added to each delay")
    link.add_argument(
        "--counting",
        default="tcp",
        choices=("papers", "mqtt", "tcp"),
        help="count bytes as the papers do, as MQTT packets, or with TCP/IP headers",
    )


def run(flags: argparse.Namespace) -> int:
    """Simulate; SettingsError for flags that do not fit."""
    try:
        if flags.what == INTERVALS:
            path = flags.out / FILE_NAME
            about = f"{header(_command(flags))}\n\nFrom the replies in [{FILE_NAME}]({FILE_NAME})."
            write_curve_sections(flags.out, about, read_replies(path))
            return 0
        with open_pair(flags) as pair:
            study = _study(flags, pair)
            variants = flags.schemes.split(",")
            if flags.what == "compare":
                print(f"Model times: {study.compute.source}", file=sys.stderr)
                print(_compared(study, variants, _world(flags, study)))
            else:
                about = f"{header(_command(flags))}\n\nModel times: {study.compute.source}"
                for write in PAGES[flags.what]:
                    asked = study if write is write_sweeps else study.repeated(flags.seeds)
                    write(asked, variants, flags.out, about, flags.sweep_commands, flags.delay_ms / 1000)
    except (ValueError, ResultsError, AgentError, TargetModelError) as error:
        raise SettingsError(str(error)) from error
    return 0


def _study(flags: argparse.Namespace, pair: Pair) -> Study:
    settings: dict[str, object] = {"temperature": flags.temperature}
    settings |= {name: getattr(flags, name) for name in SETTINGS if getattr(flags, name) is not None}
    if flags.seeds < 1:
        raise ValueError(f"--seeds must be at least 1, got {flags.seeds}")
    asked = held_out(flags.commands)
    return Study.of(pair, asked, flags.seed, settings, _compute(flags))


def _compute(flags: argparse.Namespace) -> Compute:
    if flags.profile == "measured":
        base = measure(flags.draft, flags.target, flags.dtype, flags.num_threads)
    else:
        base = PROFILES[flags.profile]
    given = {
        "draft_seconds": ("a draft token", flags.draft_ms),
        "pass_seconds": ("a pass", flags.pass_ms),
    }
    given = {name: (what, ms) for name, (what, ms) in given.items() if ms is not None}
    if not given:
        return base
    stated = " and ".join(f"{what} takes {ms:g} ms" for what, ms in given.values())
    times = {name: ms / 1000 for name, (_, ms) in given.items()}
    return replace(base, **times, source=f"As given, {stated}; the rest: {base.source}")


def _world(flags: argparse.Namespace, study: Study) -> World:
    """Return the link that the flags describe; with equal seeds every scheme meets the same fades."""
    trace = flags.trace.read_text(encoding="utf-8").splitlines() if flags.trace else None
    delay, jitter = flags.delay_ms / 1000, flags.jitter_ms / 1000
    if flags.bandwidth_mhz and (trace or flags.rate_kbps):
        raise SettingsError("--bandwidth-mhz sets the rate: give it without --rate-kbps and --trace")

    def rate(seed: int) -> Rate:
        if flags.bandwidth_mhz:
            return FadingRate(1e6 * flags.bandwidth_mhz, flags.snr_db, seed)
        return FixedRate(1000 * flags.rate_kbps) if flags.rate_kbps else FixedRate()

    def channel(seed: int) -> Channel:
        up = TraceRate.read(trace, offset=float(seed)) if trace else rate(seed)
        return Channel(Direction(up, delay, jitter), Direction(rate(seed + DOWN_SEED), delay, jitter), seed)

    if flags.counting == "papers":
        return World(channel, study.compute, lambda: Papers(PAPERS_VOCAB_SIZE))
    tcp = flags.counting == "tcp"
    return World(
        channel, study.compute, lambda: Wire(study.pair.vocab_size, tcp=tcp), broker_seconds=BROKER_SECONDS
    )


def _compared(study: Study, variants: Sequence[str], world: World) -> str:
    rows: list[Sequence[Cell]] = []
    for name in variants:
        simulation = study.simulation_in(name, world)
        outcomes = study.run(simulation, world)
        worth = study.worth_of(simulation, outcomes)
        rows.append(
            (
                simulation.variant.name,
                *speed_cells(speed(outcomes)),
                percent(worth.skipped),
                percent(worth.right),
            )
        )
    return markdown_table(["scheme", *SPEED_HEADINGS, "skipped", "exactly right"], rows)


def _command(flags: argparse.Namespace) -> str:
    """Return the command to run again; defaults are left out."""
    parser = argparse.ArgumentParser()
    add_flags(parser)
    given = [
        f"--{name.replace('_', '-')} {value}"
        for name, value in vars(flags).items()
        if name not in ("what", "command", "run", "cache", "out") and parser.get_default(name) != value
    ]
    return " ".join(["python -m evaluation simulate", flags.what, *given])
