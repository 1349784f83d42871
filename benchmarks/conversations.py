"""Measure several conversations on one device: at once in slots, and one after the other.

    python -m benchmarks.conversations [--conversations 2 4] [--rounds 5]
    python -m benchmarks.conversations --memory FOLDER [--positions 1024]

The first form: a real broker behind the link emulator, a real worker and two agents with the demo pair, both
models slowed to fixed times. Of the agents one has a slot for each conversation, the other has one slot for
all. Both are asked the same things at the same moment, in turns; every text must be the same. The time to the
first token counts from the question, so it has the wait for a slot. Then two chats take turns, and the tokens
that each end computes for the second turns are counted.

The second form loads the graph in FOLDER and fills the caches of 1, 2, 4 ... sequences.
"""

import argparse
import asyncio
import json
import re
import sys
import time
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from benchmarks.support.link_emulator import Conditions, LinkEmulator
from benchmarks.support.slowed import COMPUTES, SlowedDraft
from common.process.paths import path_flag
from edge_agent import AgentConfig, EdgeAgent
from edge_agent.draft_model.draft_model import DraftModel
from edge_agent.draft_model.source import resolve
from edge_agent.generation.generation import Generation
from evaluation.help_format import command_parser
from evaluation.local.broker import LocalBroker
from evaluation.local.worker import LocalWorker
from evaluation.smart_home.held_out import held_out

AT_ONCE, ONE_BY_ONE = "at once", "one after the other"
MB = 1_000_000
SYSTEM = "The light in the kitchen is off, the window of the hall is open, the heating is at 21 degrees. " * 3


@dataclass(slots=True)
class Rounds:
    """Figures of one way, each once per round."""

    rates: list[float] = field(default_factory=list[float])  # tokens per second of all conversations
    first: list[float] = field(default_factory=list[float])  # mean seconds to the first token
    last_first: list[float] = field(default_factory=list[float])  # of the one that waits longest
    cpu: list[float] = field(default_factory=list[float])  # seconds of the agent's process, per token
    wall: list[float] = field(default_factory=list[float])


async def consume(generation: Generation) -> tuple[Generation, float]:
    """Generate it all; returns the moment of the first token too."""
    first: float | None = None
    async for _ in generation:
        first = first or time.monotonic()
    if generation.failure:
        raise RuntimeError(generation.failure)
    return generation, first or time.monotonic()


async def ask_all(agent: EdgeAgent, prompts: Sequence[str], rounds: Rounds) -> list[str]:
    """Ask everything now; returns the texts."""
    began, began_cpu = time.monotonic(), time.process_time()
    tasks = [asyncio.create_task(consume(agent.generate(prompt, seed=1))) for prompt in prompts]
    done = await asyncio.gather(*tasks)
    seconds, cpu = time.monotonic() - began, time.process_time() - began_cpu
    num_tokens = sum(one.session.tally.num_tokens for one, _ in done)
    waits = [first - began for _, first in done]
    rounds.rates.append(num_tokens / seconds)
    rounds.first.append(sum(waits) / len(waits))
    rounds.last_first.append(max(waits))
    rounds.cpu.append(cpu / num_tokens)
    rounds.wall.append(seconds)
    return [one.text for one, _ in done]


@asynccontextmanager
async def agent_with(
    flags: argparse.Namespace, broker: str, slots: int, num_read: list[int] | None = None
) -> AsyncGenerator[EdgeAgent]:
    """An agent with so many slots, whose slowed draft model notes in `num_read` what it reads."""
    config = AgentConfig(
        broker=broker, scheme=flags.scheme, slots=slots, temperature=1.0, max_tokens=64, raw=True
    )
    model = SlowedDraft(DraftModel.load(resolve("demo"), num_threads=1), flags.draft_ms / 1000)
    model.num_read = [] if num_read is None else num_read
    async with EdgeAgent.open(config, model=model) as agent:
        yield agent


def longest_commands(count: int) -> list[str]:
    """The held-out commands with the longest answers."""
    commands = sorted(held_out(), key=lambda one: len(json.dumps(one.actions)), reverse=True)
    return [one.command for one in commands[:count]]


async def compare(flags: argparse.Namespace, broker: str, count: int) -> dict[str, Rounds]:
    """Both ways in turns, with `count` conversations."""
    found = {AT_ONCE: Rounds(), ONE_BY_ONE: Rounds()}
    prompts = longest_commands(count * (flags.rounds + 1))
    async with agent_with(flags, broker, count) as many, agent_with(flags, broker, 1) as one:
        await ask_all(many, prompts[:count], Rounds())  # fills caches
        await ask_all(one, prompts[:count], Rounds())
        for number in range(1, flags.rounds + 1):
            asked = prompts[count * number : count * (number + 1)]
            ways = [(AT_ONCE, many), (ONE_BY_ONE, one)]
            texts = [await ask_all(agent, asked, found[way]) for way, agent in ways[:: (-1) ** number]]
            if texts[0] != texts[1]:
                raise RuntimeError("the two ways wrote different texts")
    return found


def lines(count: int, found: dict[str, Rounds]) -> Iterator[str]:
    """A table of medians."""
    yield f"{count} conversations: medians of {len(found[AT_ONCE].rates)} rounds"
    for way, rounds in found.items():
        yield (
            f"  {way:20} {median(rounds.rates):6.1f} tokens/s of all; first token after "
            f"{median(rounds.first):5.2f} s on average, {median(rounds.last_first):5.2f} s at most; "
            f"{median(rounds.wall):6.2f} s in all; {1000 * median(rounds.cpu):5.1f} ms of CPU per token"
        )
    ratios = zip(found[AT_ONCE].rates, found[ONE_BY_ONE].rates, strict=True)
    yield f"  ratio of the rates   {median(one / other for one, other in ratios):6.2f}"


async def second_turns(flags: argparse.Namespace, broker: str, worker: LocalWorker) -> None:
    """Two chats take turns: what each end reads for each turn."""
    print("\ntwo chats take turns: tokens of the prompt, read by the draft model, computed by the worker")
    for slots in (2, 1):
        num_read: list[int] = []
        async with agent_with(flags, broker, slots, num_read) as agent:
            texts = [
                f"{slots}. {SYSTEM}{what}"
                for what in ("Turn on the kitchen light.", "Close the hall's window.")
            ]
            for turn in (1, 2, 3):
                for chat in (0, 1):
                    num_calls, num_passes = len(num_read), len(computed(worker))
                    generation, _ = await consume(agent.generate(texts[chat], seed=turn))
                    num_prompt = len(generation.session.tokens) - generation.session.tally.num_tokens
                    read, passes = num_read[num_calls], computed(worker)[num_passes:]
                    print(
                        f"  {slots} slots, chat {'AB'[chat]}, turn {turn}: {num_prompt:4} tokens, "
                        f"{read:4} read, {passes[0]:4} in the worker's first pass"
                    )
                    texts[chat] += f"{generation.text} And then? "


def computed(worker: LocalWorker) -> list[int]:
    """The positions that each pass of the worker had to compute."""
    return [int(number) for number in re.findall(rf"{COMPUTES}: (\d+) positions", worker.log)]


async def measure(flags: argparse.Namespace) -> None:
    """All of the first form."""
    delay = Conditions(flags.round_trip_ms / 2000)
    program = [sys.executable, "-m", "benchmarks.support.slowed", "--pass-ms", str(flags.pass_ms)]
    with LocalBroker() as broker, LocalWorker(broker.url, program=program) as worker:
        async with LinkEmulator("127.0.0.1", broker.port, delay, delay) as link:
            for count in flags.conversations:
                print("\n".join(lines(count, await compare(flags, link.url, count))), flush=True)
            await second_turns(flags, link.url, worker)


def measure_memory(folder: Path, positions: int) -> None:
    """All of the second form."""
    sequences = [DraftModel.load(folder, num_threads=1)]
    positions = min(positions, sequences[0].max_positions)
    print(f"{folder.name}, {positions} positions of {sequences[0].position_bytes} bytes in each cache")
    base = anonymous_bytes()
    print(f"  loaded: {base / MB:.1f} MB anonymous")
    for count in (1, 2, 4):
        while len(sequences) < count:
            sequences.append(sequences[0].another())
        for number, one in enumerate(sequences):
            one.begin_text(positions)
            one.logits([number + 1] * positions)
        now = anonymous_bytes()
        per_slot = (now - base) / count / MB
        print(f"  {count} slots: {now / MB:.1f} MB anonymous, {per_slot:.1f} MB per slot")


def anonymous_bytes() -> int:
    """Memory of this process that no file backs."""
    found = re.search(r"RssAnon:\s+(\d+)", Path("/proc/self/status").read_text())
    return 1024 * int(found[1]) if found else 0


def main() -> None:
    """Measure and print."""
    parser = command_parser("benchmarks.conversations", __doc__)
    parser.add_argument("--conversations", type=int, nargs="+", default=[2, 4], help="how many at once")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each way")
    parser.add_argument("--scheme", default="lossless", help="the scheme")
    parser.add_argument("--round-trip-ms", type=float, default=100.0, help="round trip of the emulated link")
    parser.add_argument("--draft-ms", type=float, default=20.0, help="how long a draft token takes")
    parser.add_argument("--pass-ms", type=float, default=60.0, help="how long a forward pass takes")
    parser.add_argument("--memory", type=path_flag, help="measure the caches of the graph in this folder")
    parser.add_argument("--positions", type=int, default=1024, help="positions in each cache")
    flags = parser.parse_args()
    if flags.memory is not None:
        measure_memory(flags.memory, flags.positions)
    else:
        asyncio.run(measure(flags))


if __name__ == "__main__":
    main()
