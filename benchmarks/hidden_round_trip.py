"""Measure whether drafting ahead hides the round trip: lossless tokens per second on a slow link.

    python -m benchmarks.hidden_round_trip

A real broker runs behind the link emulator; a real worker and a real agent use the demo pair, both models
slowed to fixed times. There are two sets of held-out commands: the first ones, and those with the longest
answers. Every variant answers the same prompts. A rate is all tokens over all seconds of a set, with the
median over its texts in brackets. All lossless variants must write the same texts, or the benchmark fails.

The bound is a rate that no pipeline with a single draft can exceed. It follows from the counts: each token is
drafted once, and the agent learns of a rejection, and of the end of a text, one round trip and one forward
pass after the token was drafted. Where long blocks are accepted whole, stop and wait comes close to it.
"""

import asyncio
import json
import statistics
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.support.link_emulator import Conditions, LinkEmulator
from benchmarks.support.slowed import SlowedDraft
from edge_agent.agent import EdgeAgent
from edge_agent.config import AgentConfig
from edge_agent.draft_model.draft_model import DraftModel
from edge_agent.draft_model.source import resolve
from evaluation.help_format import command_parser
from evaluation.local.broker import LocalBroker
from evaluation.local.worker import LocalWorker
from evaluation.smart_home.held_out import held_out

BLOCKS = (2, 4, 8, 16, 32)
OURS = "drafting ahead as far as it pays"
TOKEN_AT_A_TIME = "token at a time, stop and wait"
STREAMED = "the target model alone, streamed"


@dataclass(frozen=True, slots=True)
class Variant:
    """A scheme with its window and block length; None adapts."""

    name: str
    scheme: str
    window: int | None
    block_length: int | None


VARIANTS = (
    Variant(TOKEN_AT_A_TIME, "lossless", 1, 1),
    *(Variant(f"blocks of {length}, stop and wait", "lossless", 1, length) for length in BLOCKS),
    Variant("adaptive blocks, stop and wait", "lossless", 1, None),
    Variant(OURS, "lossless", None, None),
    Variant(STREAMED, "llm", 1, None),
)


@dataclass(frozen=True, slots=True)
class Sample:
    """One text: what it took, and the counts that limit how fast it could have been."""

    text: str
    num_tokens: int
    num_rejections: int
    num_uplinks: int
    seconds: float

    @property
    def rate(self) -> float:
        """Tokens per second."""
        return self.num_tokens / self.seconds


@dataclass(frozen=True, slots=True)
class Times:
    """What the models and the link are slowed to, in seconds."""

    round_trip: float
    draft: float
    forward_pass: float

    def bound(self, samples: Sequence[Sample]) -> float:
        """Return the tokens per second of a pipeline that waits only for rejections and each text's end."""
        num_waits = sum(sample.num_rejections + 1 for sample in samples)
        num_tokens = sum(sample.num_tokens for sample in samples)
        return num_tokens / (num_tokens * self.draft + num_waits * (self.round_trip + self.forward_pass))


def prompt_sets(count: int) -> dict[str, list[str]]:
    """Return the first held-out commands, and those whose expected answers are the longest."""
    commands = held_out()
    longest = sorted(commands, key=lambda one: len(json.dumps(one.actions)), reverse=True)
    return {
        "the first commands": [one.command for one in commands[:count]],
        "the longest answers": [one.command for one in longest[:count]],
    }


async def measure(
    prompts: Sequence[str], times: Times, settings: Mapping[str, float | None]
) -> dict[str, list[Sample]]:
    """Return a sample per prompt, by the name of the variant."""
    delay = Conditions(times.round_trip / 2)
    samples: dict[str, list[Sample]] = {}
    program = [sys.executable, "-m", "benchmarks.support.slowed", "--pass-ms", str(1000 * times.forward_pass)]
    with LocalBroker() as broker, LocalWorker(broker.url, program=program):
        async with LinkEmulator("127.0.0.1", broker.port, delay, delay) as link:
            for variant in VARIANTS:
                config = AgentConfig(
                    broker=link.url,
                    scheme=variant.scheme,
                    window=variant.window,
                    block_length=variant.block_length,
                    seed=1,
                    **settings,  # pyright: ignore[reportArgumentType]
                )
                async with EdgeAgent.open(config, model=slowed_draft(times.draft)) as agent:
                    await sample(agent, prompts[0])  # the first one fills caches
                    samples[variant.name] = [await sample(agent, prompt) for prompt in prompts]
    lossless = [samples[variant.name] for variant in VARIANTS if variant.scheme == "lossless"]
    for texts in zip(*lossless, strict=True):
        if len({one.text for one in texts}) > 1:
            raise RuntimeError("the lossless variants wrote different texts")
    return samples


async def sample(agent: EdgeAgent, prompt: str) -> Sample:
    """Generate one text."""
    generation = agent.generate(prompt)
    async for _ in generation:
        pass
    tally = generation.session.tally
    return Sample(
        generation.text,
        tally.num_tokens,
        tally.num_tested - tally.num_accepted,
        tally.num_uplinks,
        generation.clock.total,
    )


def slowed_draft(seconds: float) -> SlowedDraft:
    """Return the demo draft model, slowed to the speed of a small device."""
    return SlowedDraft(DraftModel.load(resolve("demo"), num_threads=1), seconds)


def overall(samples: Sequence[Sample]) -> float:
    """Return all tokens over all seconds."""
    return sum(one.num_tokens for one in samples) / sum(one.seconds for one in samples)


def report(samples: Mapping[str, Sequence[Sample]], times: Times) -> Iterator[str]:
    """Yield the rates, the ratios that are claimed, and how close they come to the bound."""
    rates = {name: overall(values) for name, values in samples.items()}
    for name, values in samples.items():
        median = statistics.median(one.rate for one in values)
        num_uplinks = sum(one.num_uplinks for one in values)
        yield f"{name:34} {rates[name]:6.1f} tokens/s ({median:.1f}), {num_uplinks} uplinks"
    ours, bound = samples[OURS], times.bound(samples[OURS])
    num_tokens, num_rejections = (
        sum(getattr(one, name) for one in ours) for name in ("num_tokens", "num_rejections")
    )
    best = max((f"blocks of {length}, stop and wait" for length in BLOCKS), key=lambda name: rates[name])
    yield f"{num_tokens} tokens, {num_rejections} rejections, {len(ours)} texts: at most {bound:.1f} tokens/s"
    for label, other in (("token at a time", TOKEN_AT_A_TIME), (best, best), ("plain streaming", STREAMED)):
        ratio, possible = rates[OURS] / rates[other], bound / rates[other]
        yield f"drafting ahead over {label:27} {ratio:.2f}x of at most {possible:.2f}x"
    yield f"of the bound: {rates[OURS] / bound:.0%}"


def main() -> None:
    """Measure and print."""
    parser = command_parser("benchmarks.hidden_round_trip", __doc__)
    parser.add_argument("--round-trip-ms", type=float, default=100.0, help="round trip of the emulated link")
    parser.add_argument("--draft-ms", type=float, default=20.0, help="how long a draft token takes")
    parser.add_argument("--pass-ms", type=float, default=60.0, help="how long a forward pass takes")
    parser.add_argument("--prompts", type=int, default=8, help="prompts per set")
    parser.add_argument(
        "--threshold",
        type=float,
        help="uncertainty above which a block is sent at once (default: the scheme's)",
    )
    parser.add_argument("--temperature", type=float, default=1.0, help="sampling temperature")
    flags = parser.parse_args()
    times = Times(flags.round_trip_ms / 1000, flags.draft_ms / 1000, flags.pass_ms / 1000)
    settings = {"threshold": flags.threshold, "temperature": flags.temperature}
    for name, prompts in prompt_sets(flags.prompts).items():
        print(f"{name}:", flush=True)
        print("\n".join(report(asyncio.run(measure(prompts, times, settings)), times)) + "\n", flush=True)


if __name__ == "__main__":
    main()
