"""Break everything while agents generate, and check that the texts stay the same (`make chaos`).

    python -m benchmarks.chaos --generations 200 --agents 8 --workers 3

At random times workers are killed, stopped and started, the broker is killed and started, and the links of
agents or workers are cut. The exit code is 0 if every generation ended, every lossless and coupled text
equals that of an undisturbed run, and the process with the agents leaked neither memory nor tasks. The memory
of the broker and the workers is reported too, with a note where one was restarted. Nothing is simulated:
mosquitto, the worker processes and the models are real.
"""

import argparse
import asyncio
import logging
import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

from benchmarks.support.link_emulator import LinkEmulator
from benchmarks.support.memory_sampler import HEADING, MemorySampler, count_tasks
from edge_agent.agent import EdgeAgent
from edge_agent.config import AgentConfig
from edge_agent.generation.generation import Generation
from edge_agent.session.settings import OnCloudLoss
from evaluation.help_format import command_parser
from evaluation.local.broker import LocalBroker
from evaluation.local.worker import LocalWorker, LocalWorkers
from evaluation.smart_home.held_out import held_out

SCHEMES = ("lossless", "coupled")
MAX_GROWTH_MIB = 64.0  # allowed to the process with all agents over the disturbed run


@dataclass(frozen=True, slots=True)
class Case:
    """One generation."""

    prompt: str
    scheme: str
    seed: int


@dataclass(slots=True)
class Outcome:
    """The different texts of each case, and what they took to generate."""

    texts: dict[Case, set[str]] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    num_generations: int = 0
    num_resent: int = 0
    seconds: float = 0.0

    def add(self, case: Case, generation: Generation) -> None:
        """Count a generation that has ended."""
        self.texts.setdefault(case, set()).add(generation.text)
        self.num_generations += 1
        self.num_resent += generation.session.tally.num_resent
        if generation.failure:
            self.failures.append(generation.failure)

    def changed(self, calm: "Outcome") -> list[Case]:
        """Return the cases whose texts differ from those of an undisturbed run."""
        return [case for case, texts in self.texts.items() if texts != calm.texts[case]]


def cases(count: int) -> list[Case]:
    """Return held-out commands under both lossless schemes, each with its own seed."""
    prompts = [one.command for one in held_out()]
    return [Case(prompts[i % len(prompts)], SCHEMES[i % len(SCHEMES)], i) for i in range(count)]


async def generate_all(broker_url: str, todo: Iterator[Case], num_agents: int) -> Outcome:
    """Share the cases among agents that run concurrently, one device each."""
    outcome, began = Outcome(), time.monotonic()

    async def device(number: int) -> None:
        async with AsyncExitStack() as stack:
            agents = {
                scheme: await stack.enter_async_context(
                    EdgeAgent.open(
                        AgentConfig(
                            broker=broker_url,
                            device=f"device{number}",
                            scheme=scheme,
                            threshold=0.05,
                            temperature=1.0,
                            on_cloud_loss=OnCloudLoss.WAIT.value,
                        )
                    )
                )
                for scheme in SCHEMES
            }
            for case in todo:
                generation = agents[case.scheme].generate(case.prompt, seed=case.seed)
                async for _ in generation:
                    pass
                outcome.add(case, generation)

    async with asyncio.TaskGroup() as group:
        for number in range(num_agents):
            group.create_task(device(number))
    outcome.seconds = time.monotonic() - began
    return outcome


class Trouble:
    """Breaks one thing after another until it is cancelled, and counts the faults."""

    def __init__(
        self,
        broker: LocalBroker,
        workers: Sequence[LocalWorker],
        link: LinkEmulator,
        seed: int,
        *,
        pause: tuple[float, float] = (0.5, 2.0),
        broker_weight: float = 1.0,
        worker_link: LinkEmulator | None = None,
    ) -> None:
        """`pause` is the range of seconds between faults, `broker_weight` how often the broker is chosen.

        Agents connect through `link`, and workers through `worker_link` if there is one.
        """
        self._broker, self._workers, self._link, self._worker_link = broker, workers, link, worker_link
        self._random = random.Random(seed)
        self._pause, self._broker_weight = pause, broker_weight
        self.counts: Counter[str] = Counter()
        self.has_broker = True
        self.restarted: set[str] = set()

    async def run(self) -> None:
        """Cause one fault after another."""
        faults = {
            self._kill_worker: 1.0,
            self._stop_worker: 1.0,
            self._restart_broker: self._broker_weight,
            self._cut_links: 2.0,
            self._cut_worker_links: 1.0 if self._worker_link else 0.0,
        }
        while True:
            await asyncio.sleep(self._random.uniform(*self._pause))
            (fault,) = self._random.choices(list(faults), list(faults.values()))
            self.counts[fault.__name__.strip("_").replace("_", " ")] += 1
            await fault()

    def __str__(self) -> str:
        return ", ".join(f"{count} x {name}" for name, count in sorted(self.counts.items()))

    async def _kill_worker(self) -> None:
        worker = self._random.choice(self._workers)
        self.restarted.add(worker.name)
        await asyncio.to_thread(worker.kill)
        worker.launch()

    async def _stop_worker(self) -> None:
        worker = self._random.choice(self._workers)
        self.restarted.add(worker.name)
        try:
            await asyncio.to_thread(worker.stop)
        except subprocess.TimeoutExpired:  # the machine is too busy: kill it, as a service manager would
            self.counts["stop that took too long"] += 1
            await asyncio.to_thread(worker.kill)
        worker.launch()

    async def _restart_broker(self) -> None:
        self.has_broker = False
        self.restarted.add("broker")
        await asyncio.to_thread(self._broker.kill)
        await asyncio.sleep(self._random.uniform(0.0, 1.0))
        await asyncio.to_thread(self._broker.start)
        self.has_broker = True

    async def _cut_links(self) -> None:
        await self._link.cut(self._random.uniform(0.0, 1.0))

    async def _cut_worker_links(self) -> None:
        if self._worker_link is not None:
            await self._worker_link.cut(self._random.uniform(0.0, 1.0))


async def run(flags: argparse.Namespace) -> int:
    """Run undisturbed, then disturbed, and compare."""
    todo, num_tasks = cases(flags.generations), count_tasks()
    names = [f"worker{number}" for number in range(flags.workers)]
    async with AsyncExitStack() as stack:
        broker = await asyncio.to_thread(stack.enter_context, LocalBroker())
        link = await stack.enter_async_context(LinkEmulator("127.0.0.1", broker.port))
        worker_link = await stack.enter_async_context(LinkEmulator("127.0.0.1", broker.port))
        pool = LocalWorkers(worker_link.url, "--num-threads", "1", names=names)
        await asyncio.to_thread(stack.enter_context, pool)  # a thread: they connect through this event loop
        workers = [pool[name] for name in names]
        calm = await generate_all(link.url, iter(todo), flags.agents)
        trouble = Trouble(broker, workers, link, flags.seed, worker_link=worker_link)
        memory = MemorySampler(lambda: pids(broker, workers, trouble))
        async with asyncio.TaskGroup() as group:
            running = (group.create_task(trouble.run()), group.create_task(memory.run(0.5)))
            disturbed = await generate_all(link.url, iter(todo), flags.agents)
            for task in running:
                task.cancel()
    num_tasks_left = count_tasks()
    print(
        f"{calm.num_generations} generations undisturbed: {calm.seconds:.0f} s, "
        f"{calm.num_resent} drafts resent"
    )
    changed = report(disturbed, calm, trouble)
    print(f"  tasks {num_tasks} -> {num_tasks_left}\n{HEADING}")
    leaks = num_tasks_left > num_tasks
    for growth in memory.growth(warm_up=0.2 * disturbed.seconds):
        print(f"{growth}  (restarted)" if growth.name in trouble.restarted else growth)
        leaks |= growth.name == "agents" and growth.last_mib - growth.first_mib > MAX_GROWTH_MIB
    is_whole = disturbed.num_generations == len(todo)
    return 1 if changed or calm.failures or disturbed.failures or leaks or not is_whole else 0


def pids(broker: LocalBroker, workers: Sequence[LocalWorker], trouble: Trouble) -> dict[str, int]:
    """Return the processes that are running now, by name."""
    found = {"agents": os.getpid()} | {worker.name: worker.pid for worker in workers}
    return found | ({"broker": broker.pid} if trouble.has_broker else {})


def report(disturbed: Outcome, calm: Outcome, trouble: Trouble) -> list[Case]:
    """Print what the faults did, and return the cases whose text changed."""
    changed = disturbed.changed(calm)
    print(f"{disturbed.num_generations} under {trouble}:")
    print(f"  {disturbed.seconds:.0f} s, {disturbed.num_resent} drafts resent, {len(changed)} texts changed")
    for failure in sorted({*calm.failures, *disturbed.failures}):
        print(f"  failed: {failure}")
    for case in changed[:5]:
        print(f"  changed: {case}\n    {calm.texts[case]}\n    {disturbed.texts[case]}")
    return changed


def main() -> int:
    """Run and compare; return 0 if nothing changed, 1 otherwise."""
    parser = command_parser("benchmarks.chaos", __doc__)
    parser.add_argument("--generations", type=int, default=200, help="generations per run")
    parser.add_argument("--agents", type=int, default=8, help="agents that generate concurrently")
    parser.add_argument("--workers", type=int, default=3, help="worker processes")
    parser.add_argument("--seed", type=int, default=1, help="seed of the faults")
    flags = parser.parse_args()
    logging.basicConfig(level="ERROR")  # lost connections are expected here
    return asyncio.run(run(flags))


if __name__ == "__main__":
    sys.exit(main())
