"""Measure a worker's processor time apart from its model: reading during a pass, answering between passes.

    python -m benchmarks.loop_time

The worker is a real process with a scripted target that sleeps, so its event loop has a core to itself. Runs
with 2, 8 and 32 devices, which verify without a pause, give passes with few and with many drafts. The target
reads the process's clock when a pass begins and when it ends. Linux only.
"""

import argparse
import asyncio
import json
import logging
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from scipy.optimize import nnls

from benchmarks.capacity import load
from benchmarks.support.scripted import Script, ScriptedTarget
from cloud_worker.config import WorkerConfig
from cloud_worker.engines.local import LocalEngine
from cloud_worker.monitoring.health import HealthPages
from cloud_worker.passes.forward_pass import Pass
from cloud_worker.session.job import Rows
from cloud_worker.worker import Worker, serve
from evaluation.fleet.inputs import LoopTime
from evaluation.help_format import command_parser
from evaluation.local.broker import LocalBroker
from evaluation.local.worker import LocalWorker

NUM_DEVICES = (2, 8, 32)
PASS_SECONDS = 0.04  # long enough for every device to draft its next block
NUM_WARM = 20  # passes that do not count
MARK = "passes: "


class TimedTarget(ScriptedTarget):
    """A scripted target that times the process.

    `passes` holds the drafts of each pass, and the processor seconds during it and from its end to the next.
    """

    def __init__(self) -> None:
        super().__init__(Script())
        self._ended: tuple[int, float, float] | None = None
        self.passes: list[tuple[int, float, float]] = []

    def logits(self, passes: Sequence[Pass]) -> list[Rows]:
        """Return the script's rows after the set time; each session has one draft in a pass."""
        began = time.process_time()
        if self._ended is not None:
            num_drafts, during, at = self._ended
            self.passes.append((num_drafts, during, began - at))
        time.sleep(PASS_SECONDS)
        ended = time.process_time()
        self._ended = len(passes), ended - began, ended
        return super().logits(passes)


@dataclass(frozen=True, slots=True)
class Seen:
    """Means over the passes of one load: drafts, and seconds apart from the model."""

    num_drafts: float
    reading: float
    answering: float


def seen(num_devices: int, num_tokens: int) -> Seen:
    """Put one load on a new worker."""
    program = [sys.executable, "-m", "benchmarks.loop_time"]
    with LocalBroker() as broker, LocalWorker(broker.url, program=program) as worker:
        asyncio.run(load(broker.url, num_devices, num_tokens))
        worker.stop(timeout=60.0)
        line = next(line for line in worker.log.splitlines() if line.startswith(MARK))
    passes = json.loads(line.removeprefix(MARK))[NUM_WARM:]
    if not passes:
        raise SystemExit(f"no more than {NUM_WARM} passes with {num_devices} devices: give more --tokens")
    return Seen(*(statistics.fmean(column) for column in zip(*passes, strict=True)))


def _line(points: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Fit seconds per draft and per pass, both at least 0, by least squares of the relative errors."""
    terms = np.array([[num_drafts, 1.0] for num_drafts, _ in points])
    seconds = np.array([each for _, each in points])
    found, _ = nnls(terms / seconds[:, None], np.ones(len(points)))
    return float(found[0]), float(found[1])


def loop_time(num_tokens: int = 400) -> tuple[LoopTime, list[Seen]]:
    """Return the section `loop` of the fleet's inputs, and the means that it was fitted to."""
    loads = [seen(count, num_tokens) for count in NUM_DEVICES]
    reading, reading_a_pass = _line([(each.num_drafts, each.reading) for each in loads])
    answering, answering_a_pass = _line([(each.num_drafts, each.answering) for each in loads])
    batches = ", ".join(f"{each.num_drafts:.2g}" for each in loads)
    source = (
        "measured: processor time of a worker process whose model sleeps, "
        f"a line through {batches} drafts per pass"
    )
    return LoopTime(reading, reading_a_pass, answering, answering_a_pass, source), loads


def work(broker: str, name: str) -> None:
    """Run as the worker until stopped, then print what was measured."""
    config = WorkerConfig(broker=broker, worker=name, max_rate_per_device=0.0)
    model = TimedTarget()
    asyncio.run(serve(Worker(config, LocalEngine(model)), HealthPages(config)))
    print(MARK + json.dumps(model.passes), flush=True)


def main() -> None:
    """Measure and print, or run as the worker that is measured."""
    parser = command_parser("benchmarks.loop_time", __doc__)
    parser.add_argument("--tokens", type=int, default=400, help="tokens per device")
    parser.add_argument("--broker", help=argparse.SUPPRESS)
    parser.add_argument("--worker", default="timed", help=argparse.SUPPRESS)
    flags = parser.parse_args()
    if flags.broker:
        logging.basicConfig(level="INFO")
        work(flags.broker, flags.worker)
        return
    found, loads = loop_time(flags.tokens)
    for each in loads:
        parts = f"reading {1000 * each.reading:.2f} ms, answering {1000 * each.answering:.2f} ms"
        print(f"{each.num_drafts:6.1f} drafts per pass: {parts}")
    for name, value in asdict(found).items():
        print(f"{name}: {value if isinstance(value, str) else f'{1000 * value:.3f} ms'}")


if __name__ == "__main__":
    main()
