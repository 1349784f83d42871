"""Run twenty minutes of load with faults, and check that no process leaks (`make soak`).

    python -m benchmarks.soak --minutes 20

The faults are those of benchmarks.chaos at a slower pace, but one worker is spared. After a warm-up the
memory of three processes must be flat, by the Theil-Sen slope: the spared worker, the broker (restarted now
and then; its samples continue in the new process) and the process with all agents and the link emulator.
The workers' caches are small, so that they are full by then: a cache keeps what was read, up to its limit.
Their open files and the agents' tasks must be flat too, and every text must equal that of an undisturbed run.
Workers that are killed on purpose are shown but not judged.
"""

import argparse
import asyncio
import itertools
import logging
import os
import sys
import time
from collections.abc import Sequence

import numpy as np

from benchmarks.chaos import Trouble, cases, generate_all, report
from benchmarks.support.link_emulator import LinkEmulator
from benchmarks.support.memory_sampler import HEADING, Growth, MemorySampler, count_tasks
from evaluation.help_format import command_parser
from evaluation.local.broker import LocalBroker
from evaluation.local.worker import LocalWorker, LocalWorkers

INTERVAL = 2.0  # seconds between samples
WARM_UP = 0.25  # as a share of the run
MAX_SLOPE_MIB = 1.0  # per minute
MAX_MORE_FILES = 8
MAX_MORE_TASKS = 16  # connections that come and go have some
SPARED = "steady"
WORKER_FLAGS = ("--num-threads", "1", "--cache-mb", "16")


def faults_of(growth: Growth) -> list[str]:
    """Return what is wrong with one process."""
    found: list[str] = []
    if growth.mib_per_minute > MAX_SLOPE_MIB:
        found.append(f"{growth.name} grows by {growth.mib_per_minute:.2f} MiB per minute")
    if growth.last_files > growth.first_files + MAX_MORE_FILES:
        found.append(f"{growth.name} keeps files open: {growth.first_files} -> {growth.last_files}")
    return found


async def sample_tasks(counts: list[int]) -> None:
    """Append the number of tasks at every interval."""
    while True:
        await asyncio.sleep(INTERVAL)
        counts.append(count_tasks())


def middle(counts: Sequence[int]) -> float:
    """Return the median, or 0 if there are no counts."""
    return float(np.median(counts)) if counts else 0.0


async def run(flags: argparse.Namespace) -> int:
    """Generate the undisturbed texts, then load with faults, then judge."""
    todo = cases(flags.cases)
    names = [SPARED, *(f"worker{number}" for number in range(1, flags.workers))]
    counts: list[int] = []
    with LocalBroker() as broker, LocalWorkers(broker.url, *WORKER_FLAGS, names=names) as workers:
        async with LinkEmulator("127.0.0.1", broker.port) as link:
            calm = await generate_all(link.url, iter(todo), flags.agents)
            num_tasks = count_tasks()
            pause = (0.4 * flags.pause, 1.6 * flags.pause)
            victims = [workers[name] for name in names if name != SPARED]
            trouble = Trouble(broker, victims, link, flags.seed, pause=pause, broker_weight=0.1)
            memory = MemorySampler(lambda: pids(broker, {name: workers[name] for name in names}, trouble))
            end = time.monotonic() + 60 * flags.minutes
            endless = itertools.takewhile(lambda _: time.monotonic() < end, itertools.cycle(todo))
            async with asyncio.TaskGroup() as group:
                work = (trouble.run(), memory.run(INTERVAL), sample_tasks(counts))
                running = [group.create_task(one) for one in work]
                loaded = await generate_all(link.url, endless, flags.agents)
                for task in running:
                    task.cancel()
        num_tasks_left = count_tasks()
    changed = report(loaded, calm, trouble)
    faults = [f"{len(changed)} texts changed"] if changed else []
    faults += [f"failed: {failure}" for failure in {*calm.failures, *loaded.failures}]
    print(HEADING)
    for growth in memory.growth(warm_up=WARM_UP * loaded.seconds):
        is_judged = growth.name in ("agents", "broker", SPARED)
        print(growth if is_judged else f"{growth}  (killed and restarted, not judged)")
        faults += faults_of(growth) if is_judged else []
    kept = counts[int(WARM_UP * len(counts)) :]
    edge = max(1, len(kept) // 10)
    first, last = middle(kept[:edge]), middle(kept[-edge:])
    print(f"agents' tasks: {first:.0f} -> {last:.0f} under load, {num_tasks} -> {num_tasks_left} idle")
    if last > first + MAX_MORE_TASKS or num_tasks_left > num_tasks:
        faults.append("tasks are leaked")
    print(
        f"limits: {MAX_SLOPE_MIB:g} MiB per minute after {WARM_UP:.0%} of the time, "
        f"{MAX_MORE_FILES} more files, {MAX_MORE_TASKS} more tasks: {'; '.join(faults) or 'kept'}"
    )
    return 1 if faults else 0


def pids(broker: LocalBroker, workers: dict[str, LocalWorker], trouble: Trouble) -> dict[str, int]:
    """Return the processes that are running now, by name."""
    found = {"agents": os.getpid()} | {name: worker.pid for name, worker in workers.items()}
    return found | ({"broker": broker.pid} if trouble.has_broker else {})


def main() -> int:
    """Run and judge; return 0 if nothing leaked and no text changed, 1 otherwise."""
    parser = command_parser("benchmarks.soak", __doc__)
    parser.add_argument("--minutes", type=float, default=20.0, help="how long to run")
    parser.add_argument("--agents", type=int, default=8, help="agents that generate concurrently")
    parser.add_argument("--workers", type=int, default=3, help="worker processes, one of them spared")
    parser.add_argument("--cases", type=int, default=40, help="different generations, repeated until the end")
    parser.add_argument("--pause", type=float, default=5.0, help="mean seconds between faults")
    parser.add_argument("--seed", type=int, default=1, help="seed of the faults")
    flags = parser.parse_args()
    logging.basicConfig(level="ERROR")  # lost connections are expected here
    return asyncio.run(run(flags))


if __name__ == "__main__":
    sys.exit(main())
