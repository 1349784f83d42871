"""Send a million hostile messages to a live worker that also serves a well-behaved agent (`make fuzz`).

    python -m benchmarks.fuzz --messages 1000000 --seed 1

The first part has no limit on each device's rate, so that everything is decoded; the second, shorter part has
one. Broker, worker, attackers and agent are real processes, and the demo models are real; with
`--vocabulary 151936`, a small random model with so many tokens is at both ends. Attackers send no faster than
the worker takes messages, by its own counters, so that the broker need not drop any. The exit code is 1 if
the worker ends or prints a traceback, a text of the agent changes, a message is not accounted for, or memory
grows beyond the limit. The same seed repeats the run.
"""

import argparse
import asyncio
import logging
import multiprocessing
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

import cloud_worker
import edge_agent
from benchmarks.fuzz.counts import Counts
from benchmarks.fuzz.flood import Flood
from benchmarks.fuzz.messages import DEVICES, Aim
from benchmarks.support.memory_sampler import sample, slope
from benchmarks.support.wide_model import save_wide_model
from common.grammar.engine import GrammarEngine
from common.grammar.errors import UnusableGrammarError
from common.protocol.fingerprint import fingerprint
from common.protocol.grammar import AnswerGrammar, Grammar
from common.protocol.messages import Opening
from common.sampling.distribution import Sampling
from edge_agent.agent import EdgeAgent
from edge_agent.config import AgentConfig
from edge_agent.errors import GrammarError
from edge_agent.export import export
from edge_agent.session.settings import OnCloudLoss
from evaluation.help_format import command_parser
from evaluation.local.broker import LocalBroker, free_port
from evaluation.local.worker import LocalWorker

PROMPTS = ("turn on the kitchen light", "close the blinds in the bedroom", "is the garage door open?")
WINDOW = 1200  # messages on their way to the worker; the broker queues up to 2000
LOST_AFTER = 5.0  # seconds without an arrival after which messages on their way count as lost
WARM_UP = 0.1  # share of the messages while caches and tables fill
STOP_TIMEOUT = 120.0  # for a worker with bonus tokens still to compute, on a busy machine
MAX_GROWTH_MIB = 64.0  # after the warm-up
MAX_SLOPE_MIB = 4.0  # per 100,000 messages, over the second half

_spawn = multiprocessing.get_context("spawn")


@dataclass(slots=True)
class Part:
    """One part of the run and its results."""

    name: str
    num_sent: int = 0
    num_aimed: int = 0
    num_lost: int = 0
    seconds: float = 0.0
    counts: Counts | None = None
    memory: list[tuple[int, float]] = field(default_factory=list)  # messages received, MiB
    num_texts: int = 0
    faults: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Models:
    """The folders of both ends' models."""

    draft: Path
    target: Path

    @classmethod
    def demo(cls) -> "Models":
        """Return the demo pair."""
        return cls(*(Path(str(end.__file__)).parent / "demo_model" for end in (edge_agent, cloud_worker)))

    @classmethod
    def wide(cls, folder: Path, vocab_size: int) -> "Models":
        """Write a random model with so many tokens to `folder`, and its graph for the device."""
        target = folder / "target"
        target.mkdir()
        save_wide_model(target, vocab_size)
        export(str(target), folder / "draft", "fp32")
        return cls(folder / "draft", target)

    def opening(self) -> Opening:
        """Return how a device with this draft model introduces itself; its grammar shows its engine."""
        tokenizer = Tokenizer.from_file(str(self.target / "tokenizer.json"))
        vocabulary = tokenizer.get_vocab()
        try:
            engine = GrammarEngine(lambda: tokenizer).name
        except UnusableGrammarError:
            engine = "none"
        grammar = AnswerGrammar(Grammar.regex("a*"), engine, 1, (1,))
        size = max(vocabulary.values()) + 1
        return Opening(fingerprint(vocabulary), size, Sampling(), 1, grammar=grammar)


def attack(flood: Flood, count: int, number: int, sent: Any, aimed: Any, allowed: Any) -> None:
    """Send, in a process of its own, as long as all attackers together stay within `allowed`."""

    def pause() -> None:
        sent[number], aimed[number] = flood.num_sent, flood.num_aimed
        while sum(aimed) >= allowed.value:
            time.sleep(0.002)

    flood.send(count, pause)
    sent[number], aimed[number] = flood.num_sent, flood.num_aimed


async def texts_of(agent: EdgeAgent) -> list[str]:
    """Return what the well-behaved agent writes: each prompt once, with its own seed."""
    found: list[str] = []
    grammar = _grammar(agent)
    for seed, prompt in enumerate(PROMPTS):
        given = grammar if prompt == PROMPTS[-1] else None
        generation = agent.generate(prompt, seed=seed, grammar=given)
        async for _ in generation:
            pass
        found.append(generation.text if generation.failure is None else f"failed: {generation.failure}")
    return found


def _grammar(agent: EdgeAgent) -> Grammar | None:
    """Return what the last prompt's answer must match, where the model's tokens can be constrained."""
    grammar = Grammar.json_schema({"enum": ["open", "closed", "no idea"]})
    try:
        agent.generate(PROMPTS[-1], grammar=grammar)
    except GrammarError:
        return None
    return grammar


async def besiege(
    part: Part,
    port: int,
    worker: LocalWorker,
    metrics: int,
    count: int,
    flags: Any,
    devices: Any,
    models: Models,
) -> None:
    """Attack with `count` messages while the well-behaved agent keeps generating."""
    floods = [
        Flood(port, models.opening(), 1000 * flags.seed + number, Aim(), devices)
        for number in range(flags.attackers)
    ]
    sent, aimed = _spawn.Array("q", flags.attackers), _spawn.Array("q", flags.attackers)
    allowed = _spawn.Value("q", WINDOW)
    config = AgentConfig(
        broker=f"mqtt://127.0.0.1:{port}",
        device="good",
        model=str(models.draft),
        temperature=1.0,
        max_tokens=40,
        on_cloud_loss=OnCloudLoss.WAIT.value,
    )
    began = time.monotonic()
    async with EdgeAgent.open(config) as agent:
        expected = await texts_of(agent)
        start = (await asyncio.to_thread(Counts.read, metrics)).received
        share = count // flags.attackers
        attackers = [
            _spawn.Process(target=attack, args=(flood, share, number, sent, aimed, allowed), daemon=True)
            for number, flood in enumerate(floods)
        ]
        for attacker in attackers:
            attacker.start()
        pacing = asyncio.create_task(
            pace(part, worker, metrics, lambda: sum(aimed[:]), allowed, start), name="pace"
        )
        while any(attacker.is_alive() for attacker in attackers) and not pacing.done():
            check(part, await texts_of(agent), expected)
        for attacker in attackers:
            attacker.kill() if pacing.done() else attacker.join()
            if attacker.exitcode:
                part.faults.append(f"an attacker ended with {attacker.exitcode}")
        await asyncio.sleep(3.0)  # for the messages still on their way
        pacing.cancel()
        await asyncio.gather(pacing, return_exceptions=True)
        check(part, await texts_of(agent), expected)
    part.num_sent, part.num_aimed = sum(sent[:]), sum(aimed[:])
    part.seconds = time.monotonic() - began


def check(part: Part, found: list[str], expected: list[str]) -> None:
    """Compare the well-behaved agent's texts."""
    part.num_texts += len(found)
    if found != expected:
        part.faults.append(f"a text changed: {found} instead of {expected}")


async def pace(
    part: Part, worker: LocalWorker, metrics: int, num_aimed: Callable[[], int], allowed: Any, start: int
) -> None:
    """Allow as many messages as the worker takes, and record its memory."""
    last, changed = 0, time.monotonic()
    reported = time.monotonic()
    while True:
        await asyncio.sleep(0.2)
        part.counts = await asyncio.to_thread(Counts.read, metrics)
        arrived = part.counts.received - start
        now = time.monotonic()
        if arrived != last:
            last, changed = arrived, now
        elif now - changed > LOST_AFTER:
            part.num_lost = max(part.num_lost, num_aimed() - arrived)
        allowed.value = arrived + part.num_lost + WINDOW
        taken = sample(worker.pid, now)
        if taken is None:
            part.faults.append("the worker is gone")
            return
        part.memory.append((arrived, taken.resident_mib))
        if now - reported > 30:
            reported = now
            print(f"  {arrived:9,} arrived, {taken.resident_mib:.0f} MiB, {part.num_texts} texts", flush=True)


def judge(part: Part, worker: LocalWorker, metrics: int) -> None:
    """Check everything that must hold at the end of a part, and print it."""
    counts = part.counts = Counts.settled(metrics)
    if counts.unaccounted:
        part.faults.append(f"{counts.unaccounted} messages are not accounted for")
    if "Traceback" in worker.log:
        part.faults.append("the worker printed a traceback: " + worker.log.partition("Traceback")[2][:2000])
    warm = [pair for pair in part.memory if pair[0] > WARM_UP * part.num_aimed]
    growth = warm[-1][1] - warm[0][1] if warm else 0.0
    half = warm[len(warm) // 2 :]
    per_100k = 1e5 * slope([float(number) for number, _ in half], [mib for _, mib in half])
    if growth > MAX_GROWTH_MIB or (part.num_aimed >= 200_000 and per_100k > MAX_SLOPE_MIB):
        part.faults.append(f"memory grew by {growth:.0f} MiB, {per_100k:.1f} MiB per 100,000 messages")
    print(f"\n{part.name}: {part.seconds:.0f} s")
    print(f"  {part.num_sent:,} sent, {part.num_aimed:,} of them to the worker; {part.num_lost:,} lost")
    print(counts)
    if warm:
        print(
            f"  resident memory {part.memory[0][1]:.0f} MiB at the start, {warm[0][1]:.0f} after the "
            f"warm-up, {warm[-1][1]:.0f} at the end, {max(mib for _, mib in warm):.0f} at most; "
            f"{per_100k:+.2f} MiB per 100,000 messages in the second half"
        )
    print(f"  {part.num_texts} texts of the well-behaved agent, {len(part.faults)} faults", flush=True)
    for fault in part.faults:
        print(f"  FAULT {fault}")


def run(
    part: Part, count: int, flags: argparse.Namespace, devices: Any, models: Models, *arguments: str
) -> Part:
    """Attack a new broker and worker once."""
    metrics = free_port()
    print(f"{part.name}: {count:,} messages, seed {flags.seed}", flush=True)
    model = ("--model", str(models.target), "--num-threads", "1", "--cache-mb", "64")
    arguments = (*model, "--metrics-port", str(metrics), *arguments)
    with LocalBroker() as broker, LocalWorker(broker.url, *arguments, name="victim") as worker:
        asyncio.run(besiege(part, broker.port, worker, metrics, count, flags, devices, models))
        judge(part, worker, metrics)
        began = time.monotonic()
        code = worker.stop(STOP_TIMEOUT)
        print(f"  the worker stopped with code {code} after {time.monotonic() - began:.0f} s")
        if code != 0:
            part.faults.append(f"the worker stopped with code {code}")
    return part


def main() -> int:
    """Run both parts; return 0 if no fault was found, 1 otherwise."""
    parser = command_parser("benchmarks.fuzz", __doc__)
    parser.add_argument("--messages", type=int, default=1_020_000, help="messages without a rate limit")
    parser.add_argument("--limited", type=int, default=60_000, help="messages with a rate limit")
    parser.add_argument("--attackers", type=int, default=2, help="attacking processes")
    parser.add_argument("--vocabulary", type=int, default=0, help="tokens of a random model; 0: the demo's")
    parser.add_argument("--seed", type=int, default=1, help="seed of the messages")
    flags = parser.parse_args()
    logging.basicConfig(level="ERROR")
    with tempfile.TemporaryDirectory() as folder:
        models = Models.wide(Path(folder), flags.vocabulary) if flags.vocabulary else Models.demo()
        unlimited = (DEVICES, models, "--max-rate-per-device", "0")
        limited = (("attacker", "other"), models, "--max-rate-per-device", "50")
        parts = [
            run(Part("no limit"), flags.messages, flags, *unlimited),
            run(Part("limited"), flags.limited, flags, *limited),
        ]
    faults = [fault for part in parts for fault in part.faults]
    reached = parts[0].counts.uplinks + parts[0].counts.bad_topics if parts[0].counts else 0
    print(f"\n{reached:,} messages reached the worker: {'FAILED' if faults else 'no fault'}")
    if faults:
        options = (
            f"--{name} {getattr(flags, name)}" for name in ("seed", "attackers", "messages", "vocabulary")
        )
        print("repeat with", *options)
    return 1 if faults else 0
