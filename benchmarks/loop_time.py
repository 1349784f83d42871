"""Processor time of a worker beside its model: reading during a pass, answering between two.

    python -m benchmarks.loop_time

A real worker process with a scripted target that sleeps, so the loop has a core to itself; 2, 8 and 32
devices that verify without a pause give passes with few and with many drafts. The target looks at the
process's clock when a pass begins and when it ends. Linux only.
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
from typing import cast

import numpy as np
from scipy.optimize import nnls

from benchmarks.capacity import load
from benchmarks.support.scripted import Script, ScriptedTarget
from cloud_worker.config import WorkerConfig
from cloud_worker.monitoring.health import HealthPages
from cloud_worker.passes.forward_pass import Pass
from cloud_worker.session.job import Rows
from cloud_worker.target_model import TargetModel
from cloud_worker.worker import Worker, serve
from evaluation.fleet.inputs import LoopTime
from evaluation.local.broker import LocalBroker
from evaluation.local.worker import LocalWorker

NUM_DEVICES = (2, 8, 32)
PASS_SECONDS = 0.04  # long enough for every device to draft its next block meanwhile
NUM_WARM = 20  # passes that are not counted
MARK = "passes: "


class TimedTarget(ScriptedTarget):
    """`passes` are drafts, and the process's seconds during a pass and from there to the next."""

    def __init__(self) -> None:
        super().__init__(Script())
        self._ended: tuple[int, float, float] | None = None
        self.passes: list[tuple[int, float, float]] = []

    def logits(self, passes: Sequence[Pass]) -> list[Rows]:
        """The script's rows, after the set time; one draft a pass of a session."""
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
    """Means over the passes under one load: drafts, and seconds beside the model."""

    num_drafts: float
    reading: float
    answering: float


def seen(num_devices: int, num_tokens: int) -> Seen:
    """One load on a fresh worker."""
    program = [sys.executable, "-m", "benchmarks.loop_time"]
    with LocalBroker() as broker, LocalWorker(broker.url, program=program) as worker:
        asyncio.run(load(broker.url, num_devices, num_tokens))
        worker.stop(timeout=60.0)
        line = next(line for line in worker.log.splitlines() if line.startswith(MARK))
    passes = json.loads(line.removeprefix(MARK))[NUM_WARM:]
    return Seen(*(statistics.fmean(column) for column in zip(*passes, strict=True)))


def _line(points: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Seconds a draft and a pass; the squares of the relative errors are minimised, none below zero."""
    terms = np.array([[num_drafts, 1.0] for num_drafts, _ in points])
    seconds = np.array([each for _, each in points])
    found, _ = nnls(terms / seconds[:, None], np.ones(len(points)))
    return float(found[0]), float(found[1])


def loop_time(num_tokens: int = 400) -> tuple[LoopTime, list[Seen]]:
    """The section `loop` of the fleet's inputs, and what it was fitted to."""
    loads = [seen(count, num_tokens) for count in NUM_DEVICES]
    reading, reading_a_pass = _line([(each.num_drafts, each.reading) for each in loads])
    answering, answering_a_pass = _line([(each.num_drafts, each.answering) for each in loads])
    batches = ", ".join(f"{each.num_drafts:.2g}" for each in loads)
    source = (
        "measured: processor time of a worker process whose model sleeps, "
        f"a line through {batches} drafts a pass"
    )
    return LoopTime(reading, reading_a_pass, answering, answering_a_pass, source), loads


def work(broker: str, name: str) -> None:
    """Be the worker until it is stopped, then say what was seen."""
    config = WorkerConfig(broker=broker, worker=name, max_rate_per_device=0.0)
    model = TimedTarget()
    asyncio.run(serve(Worker(config, cast("TargetModel", model)), HealthPages(config)))
    print(MARK + json.dumps(model.passes), flush=True)


def main() -> None:
    """Measure and print, or be the worker that is measured."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.loop_time", description=__doc__)
    parser.add_argument("--tokens", type=int, default=400, help="of each device")
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
        print(f"{each.num_drafts:6.1f} drafts a pass: {parts}")
    for name, value in asdict(found).items():
        print(f"{name}: {value if isinstance(value, str) else f'{1000 * value:.3f} ms'}")


if __name__ == "__main__":
    main()
