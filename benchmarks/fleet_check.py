"""Check the fleet simulation against real processes: one worker, and sessions that verify without a pause.

    python -m benchmarks.fleet_check

The real run has a broker, a worker process with a scripted target that takes a fixed time per pass, and
devices with the agent's protocol code, as in benchmarks.capacity. The simulated run puts the same sessions
through evaluation.fleet, with the broker and worker loop of evaluation/fleet/inputs.json. There are no
rejections.

The simulation takes only one figure from the real run: the time per draft token on the device, timer and
processor included. It is measured on the sessions with one draft in flight, as the time they did not spend
waiting. Sessions begin at random within the time of one block; if they began together they would stay in step
and wait for each other's processor time. A latency ends when the answer arrives, although a device handles it
only after the token that it is drafting. The exit code is 1 if a figure is outside the tolerances.
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
from typing import cast

import simpy

from benchmarks.support.device import PROMPT, Device
from cloud_worker.scheduling.scheduler import Limits
from common.link import Link, LinkSettings, Received
from common.protocol.codec import decode_to_device, decode_to_worker
from common.protocol.messages import Correction, Draft
from evaluation.fleet.command import INPUTS
from evaluation.fleet.inputs import Inputs, PassTime, load_inputs
from evaluation.fleet.traces import HELD, SchemeTraces, Trace
from evaluation.fleet.world.broker import Broker
from evaluation.fleet.world.pool import Gauge, Pool
from evaluation.fleet.world.session import DeviceTime, Session
from evaluation.fleet.world.worker import Process, Worker, WorkerTime
from evaluation.help_format import command_parser
from evaluation.local.broker import LocalBroker
from evaluation.local.worker import LocalWorker
from evaluation.reporting.results import RESULTS, Cell, header, markdown_table, write_csv, write_section

TOLERANCES = {"p50 ms": 0.15, "p99 ms": 0.35, "tokens/s": 0.15}
HEADINGS = (
    "sessions",
    "window",
    "ms per draft token",
    *(f"{name}{column}" for name in TOLERANCES for column in (" real", " simulated", " off")),
    "devices busy",
)
BLOCK_LENGTH = 4


@dataclass(frozen=True, slots=True)
class Seen:
    """Latencies in seconds, and `rate` in tokens per second.

    `draft_seconds` is the time per draft token, measured with one draft in flight; `busy` is the share of a
    processor core that all devices together took.
    """

    p50: float
    p99: float
    rate: float
    draft_seconds: float = 0.0
    busy: float = 0.0

    @classmethod
    def of(cls, latencies: Sequence[float], lengths: Sequence[float], num_tokens: int) -> "Seen":
        """Summarise all round trips, and all sessions of `num_tokens` each."""
        cuts = statistics.quantiles(latencies, n=100)
        return cls(cuts[49], cuts[98], len(lengths) * num_tokens / statistics.fmean(lengths))

    @property
    def figures(self) -> tuple[float, float, float]:
        """The figures in the order of TOLERANCES."""
        return 1000 * self.p50, 1000 * self.p99, self.rate


def starts(run: int, num_sessions: int, flags: argparse.Namespace) -> list[float]:
    """Return when each session of a run begins, in seconds: at random within the time of a block."""
    rng = random.Random(run)
    most = (BLOCK_LENGTH * flags.draft_ms + flags.pass_ms) / 1000
    return [rng.uniform(0.0, most) for _ in range(num_sessions)]


def simulated(
    run: int, inputs: Inputs, num_sessions: int, window: int, draft_seconds: float, flags: argparse.Namespace
) -> Seen:
    """Run the same sessions in virtual time."""
    rng, env, gauge = random.Random(1), simpy.Environment(), Gauge(0.0)
    passes = PassTime(flags.pass_ms / 1000, 0.0, 0.0, "given", leaves_core=True)  # it sleeps
    worker = Worker(env, 0, WorkerTime(passes, inputs.loop), Limits(), rng)
    pool = Pool(env, [worker], [Broker(env, inputs.broker, rng)], gauge, rng, 0.0)
    trace = Trace(len(PROMPT), HELD * flags.tokens)
    scheme = SchemeTraces(window, True, 70.0, 30.0, 2.0, 10.0, 30.0, (trace,))
    device = DeviceTime(draft_seconds, BLOCK_LENGTH)
    env.process(worker.run())

    def begin(after: float) -> Process:
        yield env.timeout(after)
        yield from Session(pool, scheme, trace, device).run()

    running = [env.process(begin(after)) for after in starts(run, num_sessions, flags)]
    env.run(until=simpy.AllOf(env, running))
    return Seen.of(gauge.latencies, gauge.session_seconds, flags.tokens)


class Stamped:
    """A device's link that notes how long each correction took to arrive."""

    def __init__(self, link: Link) -> None:
        self.latencies: list[float] = []
        self._link, self._sent_at = link, dict[int, float]()
        self._arrived: asyncio.Queue[Received] = asyncio.Queue()

    async def send(self, topic: str, payload: bytes, *, qos: int, expiry: int) -> None:
        """Note the time of a draft, and send."""
        message = decode_to_worker(payload)
        if isinstance(message, Draft):
            self._sent_at.setdefault(message.n, time.monotonic())
        await self._link.send(topic, payload, qos=qos, expiry=expiry)

    async def receive(self) -> Received:
        """Return the next message that `listen` has taken in."""
        return await self._arrived.get()

    async def listen(self) -> None:
        """Take in messages until cancelled."""
        while True:
            received = await self._link.receive()
            message = decode_to_device(received.payload)
            if isinstance(message, Correction) and message.n in self._sent_at:
                self.latencies.append(time.monotonic() - self._sent_at.pop(message.n))
            self._arrived.put_nowait(received)


async def _generate(device: Device, after: float, window: int, flags: argparse.Namespace) -> float:
    """Run a session that begins `after` that many seconds; return how long it took."""
    await asyncio.sleep(after)
    began, draft_seconds = time.monotonic(), flags.draft_ms / 1000
    await device.generate(flags.tokens, block_length=BLOCK_LENGTH, window=window, draft_seconds=draft_seconds)
    return time.monotonic() - began


async def _load(run: int, url: str, num_sessions: int, window: int, flags: argparse.Namespace) -> Seen:
    async with AsyncExitStack() as stack:
        names = [f"device{number}" for number in range(num_sessions)]
        devices = [await stack.enter_async_context(Device.open(LinkSettings(url), name)) for name in names]
        links = [Stamped(each.link) for each in devices]
        for device, link in zip(devices, links, strict=True):
            device.link = cast("Link", link)
            listener = asyncio.create_task(link.listen())
            stack.callback(listener.cancel)
        began, processor = time.monotonic(), time.process_time()
        offsets = starts(run, num_sessions, flags)
        running = [_generate(*each, window, flags) for each in zip(devices, offsets, strict=True)]
        lengths = await asyncio.gather(*running)
        seconds, busy = time.monotonic() - began, time.process_time() - processor
    seen = Seen.of([latency for each in links for latency in each.latencies], lengths, flags.tokens)
    waiting = sum(sum(each.latencies) for each in devices)
    drafting = (sum(lengths) - waiting) / num_sessions / flags.tokens
    return Seen(seen.p50, seen.p99, seen.rate, drafting, busy / seconds)


def median(runs: Sequence[Seen]) -> Seen:
    """Return the median of each figure."""
    names = ("p50", "p99", "rate", "draft_seconds", "busy")
    return Seen(*(statistics.median(getattr(run, name) for run in runs) for name in names))


def compare(url: str, inputs: Inputs, flags: argparse.Namespace) -> tuple[list[list[Cell]], list[str]]:
    """Return the rows of the table, and a description of each figure outside its tolerance."""
    rows, faults, drafting = list[list[Cell]](), list[str](), dict[int, float]()
    for window in (1, 4):
        for count in flags.sessions:
            found = median([asyncio.run(_load(run, url, count, window, flags)) for run in range(flags.runs)])
            drafted = drafting.setdefault(count, found.draft_seconds)
            expected = median(
                [simulated(run, inputs, count, window, drafted, flags) for run in range(flags.runs)]
            )
            row: list[Cell] = [count, window, 1000 * drafted]
            for name, truth, claim in zip(TOLERANCES, found.figures, expected.figures, strict=True):
                error = claim / truth - 1
                row += [truth, claim, f"{error:+.1%}"]
                if abs(error) > TOLERANCES[name]:
                    faults.append(f"{count} sessions, window {window}: {name} is {error:+.1%} off")
            rows.append([*row, f"{found.busy:.0%}"])
            print(*(f"{cell:.1f}" if isinstance(cell, float) else cell for cell in rows[-1]), flush=True)
    return rows, faults


def verdict(rows: Sequence[Sequence[Cell]], faults: Sequence[str]) -> str:
    """Return the tolerances and the figures outside them, in words."""
    allowed = ", ".join(f"{name.removesuffix(' ms')} {share:.0%}" for name, share in TOLERANCES.items())
    found = f"Tolerances: {allowed}. {len(faults)} of {len(rows) * len(TOLERANCES)} figures are outside them"
    return f"{found}: {'; '.join(faults)}." if faults else f"{found}."


def main() -> int:
    """Measure, simulate, print and write; return 1 if they disagree."""
    parser = command_parser("benchmarks.fleet_check", __doc__)
    parser.add_argument("--pass-ms", type=float, default=60.0, help="how long a forward pass takes")
    parser.add_argument("--draft-ms", type=float, default=40.0, help="how long a draft token takes")
    parser.add_argument("--tokens", type=int, default=60, help="tokens per session")
    parser.add_argument(
        "--sessions", type=int, nargs="+", default=[1, 4, 16, 32], help="numbers of sessions, one row each"
    )
    parser.add_argument("--runs", type=int, default=5, help="runs per row; the medians are compared")
    parser.add_argument("--write", action="store_true", help="write the table to docs/results/fleet.md")
    flags = parser.parse_args()
    program = [sys.executable, "-m", "benchmarks.support.scripted", "--pass-ms", str(flags.pass_ms)]
    with LocalBroker() as broker, LocalWorker(broker.url, program=program):
        rows, faults = compare(broker.url, load_inputs(INPUTS), flags)
    if flags.write:
        table = markdown_table(HEADINGS, rows)
        text = f"{header('python -m benchmarks.fleet_check --write')}\n\n{table}\n\n{verdict(rows, faults)}"
        write_section(RESULTS / "fleet.md", "reality", text)
        write_csv(RESULTS / "fleet_reality.csv", HEADINGS, rows)
    for fault in faults:
        print(fault, file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
