"""Everything breaks, and the texts stay the same: `make chaos`.

Agents generate while workers are killed, stopped and started, the broker is killed and started, and links are
cut, all at random times. Every generation must end, and every lossless and coupled text must equal that of an
undisturbed run; the exit code says so. Nothing is simulated: real mosquitto, real worker processes, real
models.

    python -m benchmarks.chaos --generations 200 --agents 8 --workers 3
"""

import argparse
import asyncio
import gc
import json
import logging
import random
import sys
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.link_emulator import LinkEmulator
from edge_agent.agent import EdgeAgent
from edge_agent.config import AgentConfig
from edge_agent.session_settings import OnCloudLoss
from evaluation.local_broker import LocalBroker
from evaluation.local_worker import LocalWorker, LocalWorkers

HELD_OUT = Path(__file__).parents[1] / "evaluation" / "held_out.jsonl"
SCHEMES = ("lossless", "coupled")


@dataclass(frozen=True, slots=True)
class Case:
    """One generation."""

    prompt: str
    scheme: str
    seed: int


@dataclass(slots=True)
class Outcome:
    """The texts by case, and what it took to get them."""

    texts: dict[Case, str] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    num_resent: int = 0
    seconds: float = 0.0


def cases(count: int) -> list[Case]:
    """Held-out commands under both lossless schemes, each with a seed of its own."""
    prompts = [json.loads(line)["command"] for line in HELD_OUT.read_text().splitlines()]
    return [Case(prompts[i % len(prompts)], SCHEMES[i % len(SCHEMES)], i) for i in range(count)]


async def generate_all(broker_url: str, todo: Sequence[Case], num_agents: int) -> Outcome:
    """Share the cases among agents that run side by side, one device each."""
    outcome, queue, began = Outcome(), list(reversed(todo)), time.monotonic()

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
            while queue:
                case = queue.pop()
                generation = agents[case.scheme].generate(case.prompt, seed=case.seed)
                async for _ in generation:
                    pass
                outcome.texts[case] = generation.text
                outcome.num_resent += generation.session.tally.num_resent
                if generation.session.failure:
                    outcome.failures.append(generation.session.failure)

    async with asyncio.TaskGroup() as group:
        for number in range(num_agents):
            group.create_task(device(number))
    outcome.seconds = time.monotonic() - began
    return outcome


class Trouble:
    """Breaks one thing after another until it is told to stop; counts what it did."""

    def __init__(self, broker: LocalBroker, workers: Sequence[LocalWorker], link: LinkEmulator, seed: int):
        self._broker, self._workers, self._link = broker, workers, link
        self._random = random.Random(seed)
        self.counts: Counter[str] = Counter()

    async def run(self) -> None:
        """One fault every half second to two seconds."""
        faults = (
            self._kill_worker,
            self._stop_worker,
            self._restart_broker,
            self._cut_links,
            self._cut_links,
        )
        while True:
            await asyncio.sleep(self._random.uniform(0.5, 2.0))
            fault = self._random.choice(faults)
            self.counts[fault.__name__.strip("_").replace("_", " ")] += 1
            await fault()

    async def _kill_worker(self) -> None:
        worker = self._random.choice(self._workers)
        await asyncio.to_thread(worker.kill)
        worker.launch()

    async def _stop_worker(self) -> None:
        worker = self._random.choice(self._workers)
        await asyncio.to_thread(worker.stop)
        worker.launch()

    async def _restart_broker(self) -> None:
        await asyncio.to_thread(self._broker.kill)
        await asyncio.sleep(self._random.uniform(0.0, 1.0))
        await asyncio.to_thread(self._broker.start)

    async def _cut_links(self) -> None:
        await self._link.cut(self._random.uniform(0.0, 1.0))


async def run(flags: argparse.Namespace) -> int:
    """The undisturbed run, the disturbed one, and the comparison."""
    todo = cases(flags.generations)
    names = [f"worker{number}" for number in range(flags.workers)]
    arguments = ("--num-threads", "1")
    with LocalBroker() as broker, LocalWorkers(broker.url, *arguments, names=names) as workers:
        async with LinkEmulator("127.0.0.1", broker.port) as link:
            calm = await generate_all(link.url, todo, flags.agents)
            before = measure_self()
            trouble = Trouble(broker, [workers[name] for name in names], link, flags.seed)
            breaking = asyncio.create_task(trouble.run(), name="trouble")
            disturbed = await generate_all(link.url, todo, flags.agents)
            breaking.cancel()
            await asyncio.gather(breaking, return_exceptions=True)
        after = measure_self()
    changed = [case for case in todo if disturbed.texts.get(case) != calm.texts[case]]
    print(
        f"{len(calm.texts)} generations undisturbed: {calm.seconds:.0f} s, {calm.num_resent} drafts repeated"
    )
    faults = ", ".join(f"{count} x {name}" for name, count in sorted(trouble.counts.items()))
    print(f"{len(disturbed.texts)} under {faults}:")
    print(
        f"  {disturbed.seconds:.0f} s, {disturbed.num_resent} drafts repeated, {len(changed)} texts changed"
    )
    print(f"  tasks {before[0]} -> {after[0]}, resident memory {before[1]:.0f} -> {after[1]:.0f} MiB")
    for sentence in sorted({*calm.failures, *disturbed.failures}):
        print(f"  failed: {sentence}")
    for case in changed[:5]:
        print(f"  changed: {case}\n    {calm.texts[case]!r}\n    {disturbed.texts.get(case)!r}")
    failed = changed or calm.failures or disturbed.failures or after[0] > before[0]
    return 1 if failed else 0


def measure_self() -> tuple[int, float]:
    """How many tasks this process runs, and its resident memory in MiB."""
    gc.collect()
    status = Path("/proc/self/status").read_text()
    resident = next(line for line in status.splitlines() if line.startswith("VmRSS"))
    return len(asyncio.all_tasks()), int(resident.split()[1]) / 1024


def main() -> int:
    """Run and compare; 0 when nothing changed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.chaos", description=__doc__)
    parser.add_argument("--generations", type=int, default=200)
    parser.add_argument("--agents", type=int, default=8)
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1, help="of the faults")
    flags = parser.parse_args()
    logging.basicConfig(level="ERROR")  # lost connections are what this is about
    return asyncio.run(run(flags))


if __name__ == "__main__":
    sys.exit(main())
