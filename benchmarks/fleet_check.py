"""The fleet's simulation against real processes: one worker, sessions that verify without a pause.

    python -m benchmarks.fleet_check

Real: broker, worker process with a scripted target of a set pass time, and devices with the agent's protocol
code, as in benchmarks.capacity, each drafting a token in 20 ms. Simulated: the same sessions through
evaluation.fleet, with the broker and loop times of docs/results/fleet_inputs.json. Rejections do not occur.
"""

import argparse
import asyncio
import random
import statistics
import sys
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass

import simpy

from benchmarks.device import PROMPT, Device
from cloud_worker.scheduler import Limits
from common.link import LinkSettings
from evaluation.fleet.broker import Broker
from evaluation.fleet.command import INPUTS
from evaluation.fleet.inputs import Inputs, PassTime, load_inputs
from evaluation.fleet.pool import Gauge, Pool
from evaluation.fleet.session import DeviceTime, Session
from evaluation.fleet.traces import HELD, SchemeTraces, Trace
from evaluation.fleet.worker import Worker
from evaluation.local_broker import LocalBroker
from evaluation.local_worker import LocalWorker
from evaluation.results import RESULTS, Cell, header, markdown_table, write_csv, write_section

HEADINGS = (
    "sessions",
    "window",
    "p50 ms real",
    "simulated",
    "p99 ms real",
    "simulated",
    "tokens/s real",
    "simulated",
)
BLOCK_LENGTH = 4


@dataclass(frozen=True, slots=True)
class Seen:
    """Seconds and tokens a second."""

    p50: float
    p99: float
    rate: float

    @classmethod
    def of(cls, latencies: Sequence[float], rate: float) -> "Seen":
        """From all round trips."""
        cuts = statistics.quantiles(latencies, n=100)
        return cls(cuts[49], cuts[98], rate)


def simulated(inputs: Inputs, num_sessions: int, window: int, flags: argparse.Namespace) -> Seen:
    """The same in virtual time."""
    rng, env, gauge = random.Random(1), simpy.Environment(), Gauge(0.0)
    per_draft = next(iter(inputs.targets.values())).per_draft
    worker = Worker(env, 0, PassTime(flags.pass_ms / 1000, 0.0, 0.0, per_draft, "given"), Limits())
    pool = Pool(env, [worker], [Broker(env, inputs.broker, rng)], gauge, rng, 0.0)
    trace = Trace(len(PROMPT), HELD * flags.tokens)
    scheme = SchemeTraces(window, True, 70.0, 30.0, 2.0, 10.0, 30.0, (trace,))
    device = DeviceTime(flags.draft_ms / 1000, BLOCK_LENGTH)
    env.process(worker.run())
    running = [env.process(Session(pool, scheme, trace, device).run()) for _ in range(num_sessions)]
    env.run(until=simpy.AllOf(env, running))
    return Seen.of(gauge.latencies, num_sessions * flags.tokens / env.now)


async def _load(url: str, num_sessions: int, window: int, flags: argparse.Namespace) -> Seen:
    async with AsyncExitStack() as stack:
        names = [f"device{number}" for number in range(num_sessions)]
        devices = [await stack.enter_async_context(Device.open(LinkSettings(url), name)) for name in names]
        began = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for each in devices:
                group.create_task(
                    each.generate(
                        flags.tokens,
                        block_length=BLOCK_LENGTH,
                        window=window,
                        draft_seconds=flags.draft_ms / 1000,
                    )
                )
        seconds = time.monotonic() - began
    latencies = [latency for each in devices for latency in each.latencies]
    return Seen.of(latencies, num_sessions * flags.tokens / seconds)


def real(num_sessions: int, window: int, flags: argparse.Namespace) -> Seen:
    """Through processes and sockets."""
    program = [sys.executable, "-m", "benchmarks.scripted", "--pass-ms", str(flags.pass_ms)]
    with LocalBroker() as broker, LocalWorker(broker.url, program=program):
        return asyncio.run(_load(broker.url, num_sessions, window, flags))


def main() -> None:
    """Measure, simulate, print and write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fleet_check", description=__doc__)
    parser.add_argument("--pass-ms", type=float, default=60.0)
    parser.add_argument("--draft-ms", type=float, default=20.0)
    parser.add_argument("--tokens", type=int, default=120, help="of each session")
    parser.add_argument("--sessions", type=int, nargs="+", default=[1, 4, 16, 32])
    parser.add_argument("--write", action="store_true", help="put the table into docs/results/fleet.md")
    flags = parser.parse_args()
    inputs, rows = load_inputs(INPUTS), list[list[Cell]]()
    for window in (1, 4):
        for count in flags.sessions:
            found, expected = real(count, window, flags), simulated(inputs, count, window, flags)
            pairs = [(1000 * found.p50, 1000 * expected.p50), (1000 * found.p99, 1000 * expected.p99)]
            pairs.append((found.rate, expected.rate))
            rows.append([count, window, *(cell for pair in pairs for cell in pair)])
            print(*(f"{cell:.0f}" for cell in rows[-1] if not isinstance(cell, str | None)), flush=True)
    if flags.write:
        text = f"{header('python -m benchmarks.fleet_check --write')}\n\n{markdown_table(HEADINGS, rows)}"
        write_section(RESULTS / "fleet.md", "reality", text)
        write_csv(RESULTS / "fleet_reality.csv", HEADINGS, rows)


if __name__ == "__main__":
    main()
