"""Does drafting ahead hide the round trip? Tokens a second of lossless generation over a slow link.

    python -m benchmarks.hidden_round_trip

A real broker behind the link emulator, a real worker and agent with the demo pair, both models slowed to set
times. All ways run in turn on the same prompts; the table gives medians over prompts, the ratios are of
medians. The texts of all lossless ways must be equal, or the benchmark fails.
"""

import argparse
import asyncio
import json
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.link_emulator import Conditions, LinkEmulator
from benchmarks.slowed import SlowedDraft
from edge_agent.agent import EdgeAgent
from edge_agent.config import AgentConfig
from edge_agent.draft_model import DraftModel
from edge_agent.model_source import resolve
from evaluation.local_broker import LocalBroker
from evaluation.local_worker import LocalWorker

HELD_OUT = Path(__file__).parents[1] / "evaluation" / "held_out.jsonl"
BLOCKS = (2, 4, 8, 16)


@dataclass(frozen=True, slots=True)
class Way:
    """One way to generate."""

    name: str
    scheme: str
    window: int
    block_length: int | None


WAYS = (
    Way("token at a time, stop and wait", "lossless", 1, 1),
    *(Way(f"blocks of {length}, stop and wait", "lossless", 1, length) for length in BLOCKS),
    Way("adaptive blocks, stop and wait", "lossless", 1, None),
    Way("adaptive blocks, window 8", "lossless", 8, None),
    Way("the target model alone, streamed", "llm", 1, None),
)


async def measure(flags: argparse.Namespace) -> dict[str, list[float]]:
    """Tokens a second by way, one figure a prompt."""
    prompts = [json.loads(line)["command"] for line in HELD_OUT.read_text().splitlines()[: flags.prompts]]
    delay = Conditions(flags.round_trip_ms / 2000)
    rates: dict[str, list[float]] = {way.name: [] for way in WAYS}
    with LocalBroker() as broker:
        program = [sys.executable, "-m", "benchmarks.slowed", "--pass-ms", str(flags.pass_ms)]
        with LocalWorker(broker.url, program=program):
            async with LinkEmulator("127.0.0.1", broker.port, delay, delay) as link:
                texts: dict[str, set[str]] = {}
                for way in WAYS:
                    config = AgentConfig(
                        broker=link.url,
                        scheme=way.scheme,
                        window=way.window,
                        block_length=way.block_length,
                        threshold=flags.threshold,
                        seed=1,
                        temperature=flags.temperature,
                    )
                    async with EdgeAgent.open(config, model=slowed_draft(flags.draft_ms)) as agent:
                        async for _ in agent.generate(prompts[0]):
                            pass  # the first one measures the link
                        for prompt in prompts:
                            generation = agent.generate(prompt)
                            async for _ in generation:
                                pass
                            rates[way.name].append(
                                generation.session.tally.num_tokens / generation.clock.total
                            )
                            if way.scheme == "lossless":
                                texts.setdefault(prompt, set()).add(generation.text)
    if any(len(seen) > 1 for seen in texts.values()):
        raise RuntimeError("the lossless ways gave different texts")
    return rates


def slowed_draft(milliseconds: float) -> SlowedDraft:
    """The demo draft model at the speed of a small device."""
    return SlowedDraft(DraftModel.load(resolve("demo"), num_threads=1), milliseconds / 1000)


def report(rates: dict[str, list[float]]) -> Sequence[str]:
    """Medians, and the ratios that are claimed."""
    medians = {name: statistics.median(values) for name, values in rates.items()}
    ours = medians["adaptive blocks, window 8"]
    best = max(medians[f"blocks of {length}, stop and wait"] for length in BLOCKS)
    return [
        *(f"{name:36} {median:7.1f} tokens/s" for name, median in medians.items()),
        f"drafting ahead over token at a time:   {ours / medians['token at a time, stop and wait']:.2f}x",
        f"drafting ahead over the best block:    {ours / best:.2f}x",
        f"drafting ahead over plain streaming:   {ours / medians['the target model alone, streamed']:.2f}x",
    ]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.hidden_round_trip", description=__doc__)
    parser.add_argument("--round-trip-ms", type=float, default=100.0)
    parser.add_argument("--draft-ms", type=float, default=20.0)
    parser.add_argument("--pass-ms", type=float, default=60.0)
    parser.add_argument("--prompts", type=int, default=8)
    parser.add_argument("--threshold", type=float, help="uncertainty at which a block is flushed")
    parser.add_argument("--temperature", type=float, default=1.0)
    flags = parser.parse_args()
    print("\n".join(report(asyncio.run(measure(flags)))))


if __name__ == "__main__":
    main()
