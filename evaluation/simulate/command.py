"""Schemes over channels and speeds, in virtual time: real logits, and the real code of both ends.

    python -m evaluation simulate compare --rate-kbps 100 --delay-ms 40     # one link, a table on the screen
    python -m evaluation simulate compare --trace uplink.csv                # a recorded one: t_s,ul_mbps
    python -m evaluation simulate sweeps       # SNR, thresholds, round trips: docs/results/simulation.md
    python -m evaluation simulate papers       # the papers' table and claims: docs/results/papers.md
    python -m evaluation simulate pages        # both

The models run once for each text; what they said is kept (--cache), so a second run takes a fraction of the
time and an interrupted one goes on where it was.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from cloud_worker.target_model import TargetModelError
from common.process.settings import SettingsError
from edge_agent.errors import AgentError
from edge_agent.policy.schemes import SCHEMES
from evaluation.models.pair import Pair, add_pair_flags, open_pair
from evaluation.reporting.results import RESULTS, RESULTS_HELP, Cell, ResultsError, header, markdown_table
from evaluation.simulate.measures import speed
from evaluation.simulate.measuring import measure
from evaluation.simulate.pages.sections import SPEED_HEADINGS, percent, speed_cells
from evaluation.simulate.pages.writing import write_papers, write_sweeps
from evaluation.simulate.running import World
from evaluation.simulate.study import BROKER_SECONDS, DOWN_SEED, PAPERS_VOCAB_SIZE, Study
from evaluation.simulate.ways import DEFAULT_GAMMA, PEERS
from evaluation.simulate.world.accounting import Papers, Wire
from evaluation.simulate.world.channel import Channel, Direction, FadingRate, FixedRate, Rate, TraceRate
from evaluation.simulate.world.compute import PROFILES, Compute
from evaluation.smart_home.held_out import held_out

PAGES = {"sweeps": (write_sweeps,), "papers": (write_papers,), "pages": (write_sweeps, write_papers)}
SETTINGS = ("max_ids", "rejection_cost")  # flags that every way's agent gets
WAYS = (*SCHEMES, *(f"{peer}-{DEFAULT_GAMMA}" for peer in PEERS))


def add_flags(parser: argparse.ArgumentParser) -> None:
    """What to simulate, with which pair, on which link."""
    parser.add_argument("what", choices=("compare", *PAGES), help="one table, or pages of results")
    add_pair_flags(parser)
    parser.add_argument("--ways", default=",".join(WAYS), help="schemes, and peers as sd-4 or dssd-8")
    parser.add_argument("--commands", type=int, default=200, help="held-out commands (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of the first command; the others count up")
    parser.add_argument("--temperature", type=float, default=1.0, help="(default: %(default)s)")
    parser.add_argument(
        "--max-ids", type=int, help="k (default: each scheme's, or its calibration's); 0: by price"
    )
    parser.add_argument(
        "--rejection-cost",
        type=float,
        help="seconds that an unnoticed rejection is worth: ways that skip weigh the link by it (name them)",
    )
    speeds = parser.add_argument_group("the models' times")
    speeds.add_argument(
        "--profile", default="orin-h100", choices=("measured", *PROFILES), help="(default: %(default)s)"
    )
    speeds.add_argument("--draft-ms", type=float, help="a draft token, in place of the profile's")
    speeds.add_argument("--pass-ms", type=float, help="a forward pass of the target")
    link = parser.add_argument_group("the link of compare")
    link.add_argument("--rate-kbps", type=float, help="a fixed rate, both ways")
    link.add_argument(
        "--trace", type=Path, help="CSV t_s,ul_mbps for the way up; --rate-kbps is the way down"
    )
    link.add_argument("--bandwidth-mhz", type=float, help="W log2(1 + SNR) with Rayleigh fading, both ways")
    link.add_argument("--snr-db", type=float, default=5.0, help="the mean SNR (default: %(default)s)")
    link.add_argument("--delay-ms", type=float, default=10.0, help="one way (default: %(default)s)")
    link.add_argument("--jitter-ms", type=float, default=0.0, help="added to the delay, uniform")
    link.add_argument(
        "--counting",
        default="tcp",
        choices=("papers", "mqtt", "tcp"),
        help="bytes: as the papers count, MQTT packets, or with TCP/IP headers (default: %(default)s)",
    )
    parser.add_argument(
        "--sweep-commands",
        type=int,
        default=40,
        help="of them for each point of a sweep (default: %(default)s)",
    )
    parser.add_argument("--out", type=Path, default=RESULTS, help=f"where a page goes ({RESULTS_HELP})")


def run(flags: argparse.Namespace) -> int:
    """Simulate; SettingsError for what cannot be."""
    try:
        with open_pair(flags) as pair:
            study = _study(flags, pair)
            ways = flags.ways.split(",")
            if flags.what == "compare":
                print(f"The models' times: {study.compute.source}", file=sys.stderr)
                print(_compared(study, ways, _world(flags, study)))
            else:
                about = f"{header(_command(flags))}\n\nThe models' times: {study.compute.source}"
                for write in PAGES[flags.what]:
                    write(study, ways, flags.out, about, flags.sweep_commands, flags.delay_ms / 1000)
    except (ValueError, ResultsError, AgentError, TargetModelError) as error:
        raise SettingsError(str(error)) from error
    return 0


def _study(flags: argparse.Namespace, pair: Pair) -> Study:
    settings: dict[str, object] = {"temperature": flags.temperature}
    settings |= {name: getattr(flags, name) for name in SETTINGS if getattr(flags, name) is not None}
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
    said = " and ".join(f"{what} takes {ms:g} ms" for what, ms in given.values())
    times = {name: ms / 1000 for name, (_, ms) in given.items()}
    return replace(base, **times, source=f"As given, {said}; the rest: {base.source}")


def _world(flags: argparse.Namespace, study: Study) -> World:
    """The link that the flags describe; equal seeds give equal fades to every way."""
    trace = flags.trace.read_text(encoding="utf-8").splitlines() if flags.trace else None
    delay, jitter = flags.delay_ms / 1000, flags.jitter_ms / 1000
    if flags.bandwidth_mhz and (trace or flags.rate_kbps):
        raise SettingsError("--bandwidth-mhz says the rate: give it without --rate-kbps and --trace")

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


def _compared(study: Study, ways: Sequence[str], world: World) -> str:
    rows: list[Sequence[Cell]] = []
    for name in ways:
        simulation = study.simulation(name)
        outcomes = study.run(simulation, world)
        worth = study.worth_of(simulation, outcomes)
        rows.append((name, *speed_cells(speed(outcomes)), percent(worth.skipped), percent(worth.right)))
    return markdown_table(["way", *SPEED_HEADINGS, "skipped", "exactly right"], rows)


def _command(flags: argparse.Namespace) -> str:
    """The command to run again; the defaults are left out."""
    parser = argparse.ArgumentParser()
    add_flags(parser)
    given = [
        f"--{name.replace('_', '-')} {value}"
        for name, value in vars(flags).items()
        if name not in ("what", "command", "run", "cache", "out") and parser.get_default(name) != value
    ]
    return " ".join(["python -m evaluation simulate", flags.what, *given])
