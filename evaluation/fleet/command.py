"""Simulate how many devices a pool of workers carries, from ten to a million.

    python -m evaluation fleet --devices 1000000 --prompts-per-hour 4 --p99-ms 400
    python -m evaluation fleet --report

Sessions replay texts of the real pair, with the agent's deadlines and block lengths, the worker's queue, a
model of its scheduler, and measured times (evaluation/fleet/inputs.json). With --workers the command
reports how a pool performs; without it, how many workers the p99 target needs. --report writes
docs/results/fleet.md.
"""

import argparse
from dataclasses import replace

from tqdm import tqdm

from cloud_worker.scheduling.scheduler import Limits
from common.process.paths import path_flag
from common.process.settings import SettingsError
from evaluation.fleet.inputs import INPUTS, Inputs, PassTime, load_inputs
from evaluation.fleet.page import Plan, write_page
from evaluation.fleet.sizing import enough_brokers, enough_workers
from evaluation.fleet.summary import answer, in_words
from evaluation.fleet.world.session import DeviceTime
from evaluation.fleet.world.simulation import Effort, Load, Outcome, Site, simulate
from evaluation.fleet.world.worker import WorkerTime
from evaluation.reporting.results import RESULTS_HELP


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of the command, in groups."""
    fleet = parser.add_argument_group("fleet")
    fleet.add_argument("--devices", type=int, default=10_000, help="number of devices")
    fleet.add_argument(
        "--prompts-per-hour", type=float, default=4.0, help="prompts per device and hour, mean over the day"
    )
    fleet.add_argument("--peak", type=float, default=3.0, help="rate of the busiest hour over the mean")
    fleet.add_argument(
        "--burst",
        type=float,
        default=1.0,
        help="rate in bursts (a tenth of the time) over the mean, 1 to 10",
    )
    fleet.add_argument("--scheme", default="lossless", help="scheme of every device")
    fleet.add_argument(
        "--draft-ms", type=float, default=20.0, help="how long a draft token takes on the device"
    )
    fleet.add_argument("--block-length", type=int, help="fixed block length (default: as the agent chooses)")
    fleet.add_argument("--round-trip-ms", type=float, default=40.0, help="between device and broker")
    site = parser.add_argument_group("workers and brokers")
    site.add_argument("--target", default="demo-cpu", help="profile of the target model, from the inputs")
    site.add_argument("--pass-ms", type=float, help="fixed time per forward pass, instead of a profile")
    site.add_argument("--workers", type=int, help="number of workers (default: enough for the p99 target)")
    site.add_argument("--p99-ms", type=float, default=250.0, help="p99 target of the correction latency")
    site.add_argument(
        "--brokers", type=int, help="number of brokers (default: enough for a load of at most 70 %%)"
    )
    site.add_argument("--max-batch", type=int, default=Limits().max_batch, help="sessions per pass")
    site.add_argument("--max-sessions", type=int, default=Limits().max_sessions, help="sessions per worker")
    effort = parser.add_argument_group("simulation")
    effort.add_argument("--seed", type=int, default=1, help="seed of all random numbers")
    effort.add_argument("--slice", type=int, default=4, help="simulate this many workers of a larger pool")
    effort.add_argument("--answers", type=int, default=3000, help="simulate about this many corrections")
    effort.add_argument(
        "--inputs",
        type=path_flag,
        default=INPUTS,
        help="file with measured times and texts (default: those of the package)",
    )
    effort.add_argument(
        "--report", action="store_true", help=f"write the page with tables and pictures ({RESULTS_HELP})"
    )


def run(flags: argparse.Namespace) -> int:
    """Answer in one line, or write the page."""
    _check(flags)
    inputs = load_inputs(flags.inputs)
    load, site, effort = load_of(flags, inputs), site_of(flags, inputs), effort_of(flags)
    if flags.report:
        plan = Plan(load, site, effort, flags.p99_ms / 1000, inputs, command_line(flags))
        print(f"wrote {write_page(plan)}")
        return 0
    outcome, site = find(flags, load, site, effort)
    print(answer(outcome, load, site, flags.p99_ms / 1000, is_given=flags.workers is not None))
    if outcome is not None:
        print(in_words(outcome))
    return 0 if outcome is not None else 1


def command_line(flags: argparse.Namespace) -> str:
    """Return the command to type for these flags; defaults are left out."""
    parser = argparse.ArgumentParser(add_help=False)
    add_flags(parser)
    words = ["python -m evaluation fleet"]
    for name, default in vars(parser.parse_args([])).items():
        value = getattr(flags, name)
        if value != default:
            flag = f"--{name.replace('_', '-')}"
            words.append(flag if value is True else f"{flag} {value}")
    return " ".join(words)


def find(flags: argparse.Namespace, load: Load, site: Site, effort: Effort) -> tuple[Outcome | None, Site]:
    """Return the operating point of the given or the smallest pool, and the site with its brokers."""
    with tqdm(desc="operating points", unit="", leave=False) as bar:

        def on_outcome(outcome: Outcome) -> None:
            bar.set_postfix_str(f"{outcome.num_workers} workers")
            bar.update()

        site = replace(site, num_brokers=flags.brokers or enough_brokers(load, site, effort))
        if flags.workers:
            return simulate(load, site, effort), site
        return enough_workers(load, site, effort, flags.p99_ms / 1000, on_outcome), site


def load_of(flags: argparse.Namespace, inputs: Inputs) -> Load:
    """Return the fleet that the flags describe."""
    if flags.scheme not in inputs.schemes:
        raise SettingsError(f"no texts of scheme {flags.scheme}: choose one of {', '.join(inputs.schemes)}")
    device = DeviceTime(flags.draft_ms / 1000, flags.block_length)
    rate = flags.prompts_per_hour * flags.peak / 3600
    scheme = inputs.schemes[flags.scheme]
    if rate * scheme.mean_tokens * device.draft_seconds >= 1:
        raise SettingsError(
            f"a device that drafts {scheme.mean_tokens:.0f} tokens per prompt cannot answer "
            f"{3600 * rate:.0f} prompts per hour: lower --prompts-per-hour, --peak or --draft-ms"
        )
    return Load(flags.devices, rate, scheme, device, flags.burst)


def site_of(flags: argparse.Namespace, inputs: Inputs) -> Site:
    """Return the workers and brokers that the flags describe."""
    if flags.target not in inputs.targets:
        raise SettingsError(f"no profile {flags.target}: choose one of {', '.join(inputs.targets)}")
    pass_time = inputs.targets[flags.target]
    if flags.pass_ms is not None:
        source = f"given: {flags.pass_ms:g} ms per pass"
        seconds = flags.pass_ms / 1000
        pass_time = PassTime(seconds, 0.0, 0.0, source, leaves_core=pass_time.leaves_core)
    limits = Limits(max_batch=flags.max_batch, max_sessions=flags.max_sessions)
    time = WorkerTime(pass_time, inputs.loop)
    round_trip = flags.round_trip_ms / 1000
    return Site(flags.workers or 1, time, inputs.broker, limits=limits, round_trip=round_trip)


def effort_of(flags: argparse.Namespace) -> Effort:
    """Return how much is simulated."""
    return Effort(flags.seed, flags.slice, flags.answers)


def _check(flags: argparse.Namespace) -> None:
    """Raise SettingsError for flags out of range."""
    positive = (
        "devices",
        "prompts_per_hour",
        "peak",
        "p99_ms",
        "max_batch",
        "max_sessions",
        "slice",
        "answers",
    )
    for name in (*positive, "workers", "brokers", "pass_ms", "block_length"):
        value = getattr(flags, name)
        if value is not None and value <= 0:
            raise SettingsError(f"--{name.replace('_', '-')} must be above 0, not {value:g}")
    for name in ("draft_ms", "round_trip_ms"):
        if getattr(flags, name) < 0:
            raise SettingsError(f"--{name.replace('_', '-')} must not be below 0")
    if not 1 <= flags.burst <= 10:
        raise SettingsError(f"--burst must be 1 (no bursts) to 10, not {flags.burst:g}")
