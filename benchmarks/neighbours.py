"""Measure what hostile but well-formed accounts at their allowed rate cost a device that behaves.

    python -m benchmarks.neighbours --accounts 10 --kinds small worst

A device with the agent's protocol code drafts blocks of four tokens with a pause for each token, alone and
beside the accounts, in turns. Broker, worker and accounts are real processes; the worker runs the demo's
target model, or with `--vocabulary 151936` a small random one whose rows are that long. Each line has the
medians over the rounds: the device's p50 and p99 in milliseconds alone and beside them, their ratio, what the
device was refused, and the cores that worker, broker and accounts used. On a machine with two cores these
compete: judge a ratio together with the last column. Linux only.
"""

import argparse
import asyncio
import multiprocessing
import os
import statistics
import tempfile
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Tokenizer

import cloud_worker
from benchmarks.fuzz.counts import Counts
from benchmarks.support.attackers import KINDS, Attack
from benchmarks.support.device import Device, Place
from benchmarks.support.wide_model import save_wide_model
from common.link import LinkSettings
from common.protocol.fingerprint import fingerprint
from common.protocol.messages import Opening
from common.sampling.distribution import Sampling
from evaluation.help_format import command_parser
from evaluation.local.broker import LocalBroker, free_port
from evaluation.local.process_time import cpu_seconds
from evaluation.local.worker import LocalWorker

WORKER = "worker"
TOKENS = 60  # of each of the device's answers
SETTLE = 1.0  # seconds of an attack before it counts
DEMO = Path(cloud_worker.__file__).parent / "demo_model"

_spawn = multiprocessing.get_context("spawn")


@dataclass(frozen=True, slots=True)
class Scene:
    """A broker, a worker, and the place that a device finds there."""

    broker: LocalBroker
    worker: LocalWorker
    metrics: int
    place: Place


@dataclass(frozen=True, slots=True)
class Part:
    """What the device measured in one part, in seconds, and what the machine spent on it."""

    latencies: Sequence[float]
    num_refusals: int
    failure: str | None
    cores: Sequence[float] = (0.0, 0.0, 0.0)  # of worker, broker, accounts
    num_shed: int = 0

    def quantile(self, percent: int) -> float:
        """A percentile of the latencies, in milliseconds; infinite without any."""
        if len(self.latencies) < 2:
            return float("inf")
        return 1000 * statistics.quantiles(self.latencies, n=100, method="inclusive")[percent - 1]


@contextmanager
def scene(vocab_size: int, extra: Sequence[str]) -> Generator[Scene]:
    """Start broker and worker; `vocab_size` 0 is the demo's model."""
    with tempfile.TemporaryDirectory() as name:
        folder = save_wide_model(Path(name), vocab_size) if vocab_size else DEMO
        vocabulary = Tokenizer.from_file(str(folder / "tokenizer.json")).get_vocab()
        place = Place("demo", fingerprint(vocabulary), max(vocabulary.values()) + 1)
        metrics = free_port()
        model = ("--model", str(folder)) if vocab_size else ()
        flags = (*model, "--metrics-port", str(metrics), "--num-threads", "1", *extra)
        with LocalBroker() as broker, LocalWorker(broker.url, *flags, name=WORKER) as worker:
            yield Scene(broker, worker, metrics, place)


async def behave(place: Scene, seconds: float, draft_seconds: float) -> Part:
    """Generate answers for a while, as an agent does."""
    async with Device.open(LinkSettings(url=place.broker.url), "good", place.place) as device:
        try:
            async with asyncio.timeout(seconds):
                while device.failure is None:
                    await device.generate(TOKENS, block_length=4, draft_seconds=draft_seconds)
        except TimeoutError:
            pass
        return Part(device.latencies, device.num_refusals, device.failure)


def beside(scene: Scene, kind: str, flags: argparse.Namespace) -> Part:
    """The same beside an attack that has already settled."""
    opening = Opening(scene.place.tokenizer, scene.place.vocab_size, Sampling(), 1)
    seconds = flags.seconds + 2 * SETTLE
    attack = Attack(
        kind, flags.accounts, flags.rate, seconds, opening, flags.max_tokens, scene.broker.port, WORKER
    )
    is_ready, may_go = _spawn.Event(), _spawn.Event()
    process = _spawn.Process(target=attack.run, args=(is_ready.set, may_go.wait), daemon=True)
    process.start()
    is_ready.wait()
    pids = (scene.worker.pid, scene.broker.pid, process.pid or os.getpid())
    may_go.set()

    async def later() -> tuple[Part, list[float]]:
        await asyncio.sleep(SETTLE)
        before = [cpu_seconds(pid) for pid in pids]
        part = await behave(scene, flags.seconds, flags.draft_ms / 1000)
        return part, [(cpu_seconds(pid) - was) / flags.seconds for pid, was in zip(pids, before, strict=True)]

    shed = Counts.read(scene.metrics).over_rate
    part, cores = asyncio.run(later())
    shed = Counts.read(scene.metrics).over_rate - shed
    process.kill()
    process.join()
    process.close()
    return Part(part.latencies, part.num_refusals, part.failure, cores, shed)


def line(kind: str, alone: Sequence[Part], beside: Sequence[Part]) -> str:
    """Return one row: medians over the rounds, sums of refusals."""
    own, other = (statistics.median(part.quantile(99) for part in parts) for parts in (alone, beside))
    p50s = (statistics.median(part.quantile(50) for part in parts) for parts in (alone, beside))
    cores = [statistics.median(values) for values in zip(*(part.cores for part in beside), strict=True)]
    failures = sorted({part.failure for part in beside if part.failure})
    count = sum(len(part.latencies) for part in beside)
    ratio = other / own
    return (
        f"{kind:>8} {next(p50s):7.1f} {next(p50s):7.1f} {own:7.1f} {other:7.1f} {ratio:6.1f} {count:7d} "
        f"{sum(part.num_refusals for part in beside):7d} {sum(part.num_shed for part in beside):8d}   "
        f"{' '.join(f'{value:.2f}' for value in cores)} {' '.join(failures)}"
    )


def main() -> None:
    """Measure and print."""
    parser = command_parser("benchmarks.neighbours", __doc__)
    parser.add_argument("--accounts", type=int, default=10, help="hostile accounts")
    parser.add_argument("--rate", type=float, default=200.0, help="messages per second of each")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS), help="what they send")
    parser.add_argument("--seconds", type=float, default=5.0, help="length of each part")
    parser.add_argument("--rounds", type=int, default=3, help="alone and beside them, in turns")
    parser.add_argument("--draft-ms", type=float, default=5.0, help="the device's pause for a draft token")
    parser.add_argument("--vocabulary", type=int, default=0, help="tokens of a random model; 0: the demo's")
    parser.add_argument("--max-tokens", type=int, default=500, help="longest context that they send")
    parser.add_argument("--worker-flags", nargs="*", default=[], metavar="FLAG=VALUE", help="more settings")
    flags = parser.parse_args()
    extra = [part for flag in flags.worker_flags for part in f"--{flag}".split("=", 1)]
    print(
        f"{flags.accounts} accounts, {flags.rate:g} messages per second each; load {os.getloadavg()[0]:.1f}"
    )
    heads = ("p50 ms", "beside", "p99 ms", "beside")
    print(
        f"{'kind':>8} {' '.join(f'{head:>7}' for head in heads)} {'ratio':>6} {'drafts':>7} {'refused':>7} "
        f"{'shed':>8}   cores of worker, broker, accounts"
    )
    for kind in flags.kinds:
        with scene(flags.vocabulary, extra) as place:
            asyncio.run(behave(place, 2 * SETTLE, flags.draft_ms / 1000))  # a warm-up
            alone: list[Part] = []
            pressed: list[Part] = []
            for _ in range(flags.rounds):
                alone.append(asyncio.run(behave(place, flags.seconds, flags.draft_ms / 1000)))
                pressed.append(beside(place, kind, flags))
                asyncio.run(asyncio.sleep(SETTLE))
        print(line(kind, alone, pressed), flush=True)


if __name__ == "__main__":
    main()
