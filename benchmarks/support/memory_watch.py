"""Resident memory, open files and asyncio tasks of processes over time, and whether they grow.

Law: a verdict rests on a robust slope (Theil-Sen: the median of the slopes between all pairs of samples), so
neither one spike nor the first minute, in which caches fill, decides it.
"""

import asyncio
import gc
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

MAX_POINTS = 1000  # all pairs of more would take gigabytes


@dataclass(frozen=True, slots=True)
class Sample:
    """One process at one moment."""

    seconds: float
    resident_mib: float
    num_files: int


def sample(pid: int, seconds: float) -> Sample | None:
    """What /proc says of a process; None when it is not there."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
        num_files = len(list(Path(f"/proc/{pid}/fd").iterdir()))
    except OSError:
        return None
    resident = status.partition("VmRSS:")[2].split()
    return Sample(seconds, int(resident[0]) / 1024, num_files) if resident else None


def slope(xs: Sequence[float], ys: Sequence[float]) -> float:
    """The Theil-Sen slope of ys over xs, of at most MAX_POINTS of them; 0 for fewer than two samples."""
    step = -(-len(xs) // MAX_POINTS) or 1
    x, y = np.asarray(xs, float)[::step], np.asarray(ys, float)[::step]
    first, second = np.triu_indices(len(x), 1)
    apart = x[second] != x[first]
    if not apart.any():
        return 0.0
    return float(np.median((y[second] - y[first])[apart] / (x[second] - x[first])[apart]))


@dataclass(frozen=True, slots=True)
class Growth:
    """A process after its warm-up: memory at both ends, MiB a minute, open files at both ends."""

    name: str
    num_samples: int
    first_mib: float
    last_mib: float
    peak_mib: float
    mib_per_minute: float
    first_files: int
    last_files: int

    def __str__(self) -> str:
        return (
            f"{self.name:>12} {self.first_mib:8.1f} {self.last_mib:8.1f} {self.peak_mib:8.1f} "
            f"{self.mib_per_minute:+10.3f} {self.first_files:6d} {self.last_files:6d} {self.num_samples:8d}"
        )


HEADING = (
    f"{'process':>12} {'first':>8} {'last':>8} {'peak':>8} {'MiB/min':>10} {'files':>6} {'last':>6} "
    f"{'samples':>8}"
)


@dataclass(slots=True)
class MemoryWatch:
    """Samples processes by name; `pids` tells which are there now. A restarted one goes on under its name."""

    pids: Callable[[], dict[str, int]]
    began: float = field(default_factory=time.monotonic)
    samples: dict[str, list[Sample]] = field(default_factory=dict)

    def take(self) -> None:
        """One sample of each process that is there."""
        for name, pid in self.pids().items():
            taken = sample(pid, time.monotonic() - self.began)
            if taken is not None:
                self.samples.setdefault(name, []).append(taken)

    async def run(self, interval: float) -> None:
        """Take samples until cancelled."""
        while True:
            self.take()
            await asyncio.sleep(interval)

    def growth(self, warm_up: float) -> list[Growth]:
        """Each process over its samples after `warm_up` seconds; without any, it is left out."""
        found: list[Growth] = []
        for name, taken in sorted(self.samples.items()):
            kept = [one for one in taken if one.seconds >= warm_up]
            if kept:
                found.append(_growth(name, kept))
        return found


def _growth(name: str, kept: Sequence[Sample]) -> Growth:
    memory = [one.resident_mib for one in kept]
    edge = max(1, len(kept) // 10)  # both ends are medians over a tenth of the samples
    return Growth(
        name,
        len(kept),
        first_mib=float(np.median(memory[:edge])),
        last_mib=float(np.median(memory[-edge:])),
        peak_mib=max(memory),
        mib_per_minute=60 * slope([one.seconds for one in kept], memory),
        first_files=round(float(np.median([one.num_files for one in kept[:edge]]))),
        last_files=round(float(np.median([one.num_files for one in kept[-edge:]]))),
    )


def count_tasks() -> int:
    """The asyncio tasks of this process, after a garbage collection."""
    gc.collect()
    return len(asyncio.all_tasks())
