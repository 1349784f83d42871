"""Tokens per second of our schemes and of other engines, one answer after the other, in turns.

Law: all ways answer the same prompts with the same number of threads beside the same idle worker; a way's
time is its own. The worker and each peer may use all threads, the agent's draft model has one.
"""

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self, TypeAlias

from edge_agent.agent import EdgeAgent
from evaluation.local.process_time import cpu_seconds


@dataclass(frozen=True, slots=True)
class Timed:
    """One answer: seconds, processor seconds of this process and of the worker, and what crossed the link."""

    way: str
    kind: str
    num_tokens: int
    seconds: float
    first: float | None
    cpu: float
    worker_cpu: float
    num_uplinks: int = 0
    num_bytes_up: int = 0
    num_bytes_down: int = 0
    num_tested: int = 0
    num_accepted: int = 0
    num_skipped: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """Return what `to_json` wrote."""
        return cls(**values)


Way: TypeAlias = Callable[[str, str, int], Awaitable[Timed]]  # kind, prompt, seed


def agent_way(name: str, agent: EdgeAgent, worker_pid: int) -> Way:
    """Return one of our schemes; the agent's config says which."""

    async def run(kind: str, prompt: str, seed: int) -> Timed:
        before, worker = agent.link_statistics, cpu_seconds(worker_pid)
        generation = agent.generate(prompt, seed=seed)
        async for _ in generation:
            pass
        session, clock, after = generation.session, generation.clock, agent.link_statistics
        if session.failure is not None:
            raise RuntimeError(agent.explain(session.failure))
        tally = session.tally
        return Timed(
            name,
            kind,
            tally.num_tokens,
            clock.total,
            clock.first_token,
            clock.cpu,
            cpu_seconds(worker_pid) - worker,
            tally.num_uplinks,
            after.num_bytes_up - before.num_bytes_up,
            after.num_bytes_down - before.num_bytes_down,
            tally.num_tested,
            tally.num_accepted,
            tally.num_skipped,
        )

    return run


def peer_way(name: str, answer: Callable[[str], int]) -> Way:
    """Return another engine in this process; `answer` takes a prompt and returns how many tokens it made."""

    async def run(kind: str, prompt: str, _: int) -> Timed:
        began, cpu = time.perf_counter(), time.process_time()
        num_tokens = answer(prompt)
        return Timed(
            name, kind, num_tokens, time.perf_counter() - began, None, time.process_time() - cpu, 0.0
        )

    return run


async def take_turns(
    ways: Mapping[str, Way], prompts: Mapping[str, Sequence[str]], progress: Callable[[], object]
) -> list[Timed]:
    """Answer each prompt in every way before the next one; the first prompt is answered once unmeasured."""
    found: list[Timed] = []
    warm_up = next(iter(prompts.values()))[0]
    for way in ways.values():
        await way("warm-up", warm_up, 0)
    for kind, asked in prompts.items():
        for seed, prompt in enumerate(asked, 1):
            for way in ways.values():
                found.append(await way(kind, prompt, seed))
                progress()
    return found
