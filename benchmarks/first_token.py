"""Measure the time to the first token with and without sending the prompt ahead of the first draft.

    python -m benchmarks.first_token --draft FOLDER --target FOLDER

A broker and a worker run on this machine, one thread for each model. Every prompt is new to both ends; the
two ways take turns. Printed are medians: seconds to the first token, and processor seconds of the agent and
of the worker for a whole answer of a few tokens. With fewer than two free cores both ends share what reading
ahead would gain.
"""

import argparse
import asyncio
import statistics
from dataclasses import dataclass, field
from itertools import count
from unittest.mock import patch

from edge_agent import AgentConfig, EdgeAgent
from edge_agent.generation import generation as generations
from evaluation.help_format import command_parser
from evaluation.local.broker import LocalBroker
from evaluation.local.process_time import cpu_seconds
from evaluation.local.worker import LocalWorker

NUM_TOKENS = 4
TEXT = "the window of the kitchen is open and the light in the hall is off while the heating is on "
NEVER = 1 << 30  # unread tokens: no prompt is that long


@dataclass(slots=True)
class Times:
    """One entry per answer, in seconds."""

    first: list[float] = field(default_factory=list[float])
    agent_cpu: list[float] = field(default_factory=list[float])
    worker_cpu: list[float] = field(default_factory=list[float])

    def line(self, name: str) -> str:
        """One row of the table."""
        first, agent, worker = map(statistics.median, (self.first, self.agent_cpu, self.worker_cpu))
        return f"{name:24} {first:8.3f} {agent:10.3f} {worker:10.3f}"


async def answer(agent: EdgeAgent, prompt: str, worker: LocalWorker, times: Times) -> None:
    """Generate a few tokens, and note what they took."""
    before = cpu_seconds(worker.pid)
    generation = agent.generate(prompt, seed=1)
    async for _ in generation:
        pass
    assert generation.failure is None, generation.failure
    times.first.append(generation.clock.first_token or 0.0)
    times.agent_cpu.append(generation.clock.cpu)
    times.worker_cpu.append(cpu_seconds(worker.pid) - before)


async def measure(flags: argparse.Namespace, broker: LocalBroker, worker: LocalWorker) -> None:
    """Print a table for each length."""
    config = AgentConfig(
        model=flags.draft, broker=broker.url, scheme=flags.scheme, max_tokens=NUM_TOKENS, num_threads=1,
        raw=True, cloud_timeout=120.0,
    )  # fmt: skip
    numbers = count()
    async with EdgeAgent.open(config) as agent:
        await answer(agent, "warm up " * 99, worker, Times())
        for length in flags.lengths:
            ways = {"with the first draft": (NEVER, Times()), "ahead of it": (1, Times())}
            for _ in range(flags.rounds):
                for threshold, times in ways.values():
                    words = [f"Number {next(numbers)}:", *(TEXT * length).split()]
                    prompt = " ".join(words[: length - 2])
                    with patch.object(generations, "READ_AHEAD_FROM", threshold):
                        await answer(agent, prompt, worker, times)
            print(f"{f'prompt of about {length}':24} {'first, s':>8} {'agent cpu':>10} {'worker cpu':>10}")
            for name, (_, times) in ways.items():
                print(times.line(name), flush=True)


def main() -> None:
    """Measure and print."""
    parser = command_parser("benchmarks.first_token", __doc__)
    parser.add_argument("--draft", default="demo", help="the draft model")
    parser.add_argument("--target", default="demo", help="the target model")
    parser.add_argument("--scheme", default="lossless", help="a scheme whose first token surely goes up")
    parser.add_argument("--lengths", type=int, nargs="+", default=[300, 1000], help="tokens of the prompts")
    parser.add_argument("--rounds", type=int, default=7, help="prompts of each length and way")
    flags = parser.parse_args()
    with (
        LocalBroker() as broker,
        LocalWorker(broker.url, "--model", flags.target, "--num-threads", "1") as worker,
    ):
        asyncio.run(measure(flags, broker, worker))


if __name__ == "__main__":
    main()
