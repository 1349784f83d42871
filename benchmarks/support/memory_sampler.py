"""Samples resident memory and open files of processes, and measures whether they grow.

Law: a verdict rests on a robust slope (Theil-Sen: the median of the slopes between all pairs of samples), so
neither a spike nor the first minute, while caches fill, decides it.
"""

import asyncio
import gc
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

MAX_POINTS = 1000  # all pairs of more points would take gigabytes


@dataclass(frozen=True, slots=True)
class Sample:
    """One process at one moment."""

    seconds: float
    resident_mib: float
    num_files: int


def sample(pid: int, seconds: float) -> Sample | None:
    """Read /proc of a process; None if the process does not exist."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
        num_files = len(list(Path(f"/proc/{pid}/fd").iterdir()))
    except OSError:
        return None
    resident = status.partition("VmRSS:")[2].split()
    return Sample(seconds, int(resident[0]) / 1024, num_files) if resident else None


def slope(xs: Sequence[float], ys: Sequence[float]) -> float:
    """Return the Theil-Sen slope of ys over xs, from at most MAX_POINTS of them; 0 for fewer than two."""
    step = -(-len(xs) // MAX_POINTS) or 1
    x, y = np.asarray(xs, float)[::step], np.asarray(ys, float)[::step]
    first, second = np.triu_indices(len(x), 1)
    apart = x[second] != x[first]
    if not apart.any():
        return 0.0
    return float(np.median((y[second] - y[first])[apart] / (x[second] - x[first])[apart]))


@dataclass(frozen=True, slots=True)
class Growth:
    """A process after its warm-up: memory and open files at both ends, and MiB per minute."""

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
class MemorySampler:
    """Samples of processes by name; `pids` returns those that run now. A restarted one keeps its name."""

    pids: Callable[[], dict[str, int]]
    began: float = field(default_factory=time.monotonic)
    samples: dict[str, list[Sample]] = field(default_factory=dict)

    def take(self) -> None:
        """Sample each process that is running."""
        for name, pid in self.pids().items():
            taken = sample(pid, time.monotonic() - self.began)
            if taken is not None:
                self.samples.setdefault(name, []).append(taken)

    async def run(self, interval: float) -> None:
        """Sample every `interval` seconds until cancelled."""
        while True:
            self.take()
            await asyncio.sleep(interval)

    def growth(self, warm_up: float) -> list[Growth]:
        """Return the growth of each process that has samples after `warm_up` seconds."""
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
    """Return the number of asyncio tasks of this process, after a garbage collection."""
    gc.collect()
    return len(asyncio.all_tasks())
