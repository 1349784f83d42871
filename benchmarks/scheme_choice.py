"""Compare `auto` with the better of `llm` and `lossless`: in simulation over a grid of links, and for real.

    python -m benchmarks.scheme_choice
    python -m benchmarks.scheme_choice --draft FOLDER --target FOLDER --round-trips-ms 5 50 200

Without models, recorded texts of a real pair (benchmarks/drafting_ahead) are drafted again in virtual time,
code, arithmetic and chat in turn on one device, for every draft time, pass time and round trip of the grid.
With models, real agents, a real broker and a real worker answer on this machine behind the link emulator.
All schemes take turns on each prompt; a figure is the median over prompts of the ratio to `llm`.
"""

import argparse
import asyncio
import itertools
import statistics
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack

from benchmarks.drafting_ahead.__main__ import RECORDS
from benchmarks.drafting_ahead.records import Record, from_json, without_drafts
from benchmarks.drafting_ahead.replay import replay
from benchmarks.support.link_emulator import Conditions, LinkEmulator
from edge_agent.agent import EdgeAgent
from edge_agent.config import AgentConfig
from evaluation.help_format import command_parser
from evaluation.local.broker import LocalBroker
from evaluation.local.worker import LocalWorker
from evaluation.real_models.speeds import Timed, agent_way, take_turns
from evaluation.simulate.variants import variant
from evaluation.simulate.world.compute import Compute
from evaluation.value.prompts import PROMPTS

DRAFTS_MS = (5, 15, 30, 60, 120)
PASSES_MS = {6: 0.1, 12: 0.2, 25: 0.2, 60: 5.0, 200: 15.0, 370: 25.0}  # and per position
ROUND_TRIPS_MS = (5, 50, 200)
READING = 1 / 20  # of a draft token: a token of the prompt on the device
SCHEMES = ("llm", "lossless", "coupled", "auto")
GOAL = 0.95
CLOUD_TIMEOUT = 600.0  # seconds: a loaded machine is no lost cloud


def mixture(num_rounds: int) -> list[Record]:
    """Return recorded texts of all kinds in turn."""
    kinds = from_json(RECORDS.read_text())["lossless"].values()
    texts = [text for some in itertools.zip_longest(*kinds) for text in some if text is not None]
    return texts * num_rounds


def grid(
    num_rounds: int, drafts: Sequence[int], passes: Sequence[int], trips: Sequence[int]
) -> Iterator[str]:
    """Yield a line per point of the grid, all in milliseconds, and what they come to."""
    texts, found = mixture(num_rounds), list[float]()
    for draft, forward, trip in itertools.product(drafts, passes, trips):
        compute = Compute(
            draft_seconds=draft / 1000,
            prompt_seconds=READING * draft / 1000,
            pass_seconds=forward / 1000,
            position_seconds=PASSES_MS[forward] / 1000,
        )
        auto, lossless = (
            replay(texts, variant(name), compute, trip / 1000).rate for name in ("auto", "lossless")
        )
        llm = replay(without_drafts(texts), variant("llm"), compute, trip / 1000).rate
        found.append(auto / max(llm, lossless))
        yield (
            f"draft {draft:3} ms, pass {forward:3} ms, round trip {trip:3} ms: llm {llm:6.1f} tokens/s, "
            f"lossless {lossless / llm:.2f}, auto {auto / llm:.2f} of it: {found[-1]:.2f} of the better"
        )
    is_met = [ratio >= GOAL for ratio in found]
    yield (
        f"{sum(is_met)} of {len(found)} settings at {GOAL} or above; median {statistics.median(found):.2f}, "
        f"least {min(found):.2f}"
    )


async def real(flags: argparse.Namespace, trip: int) -> list[Timed]:
    """Let all schemes answer all prompts in turns behind a link with this round trip in milliseconds."""
    delay = Conditions(trip / 2000)
    worker_flags = ("--model", flags.target, "--dtype", flags.dtype, "--num-threads", str(flags.num_threads))
    prompts = {kind: some[: flags.prompts] for kind, some in PROMPTS.items()}
    with LocalBroker() as broker, LocalWorker(broker.url, *worker_flags) as worker:
        async with LinkEmulator("127.0.0.1", broker.port, delay, delay) as link, AsyncExitStack() as stack:
            ways = {}
            for scheme in SCHEMES:
                config = AgentConfig(
                    model=flags.draft, broker=link.url, scheme=scheme, max_tokens=flags.max_tokens,
                    num_threads=1, cloud_timeout=CLOUD_TIMEOUT, temperature=flags.temperature,
                )  # fmt: skip
                agent = await stack.enter_async_context(EdgeAgent.open(config))
                ways[scheme] = agent_way(scheme, agent, worker.pid)
            return await take_turns(ways, prompts, lambda: None)


def report(trip: int, found: Sequence[Timed]) -> Iterator[str]:
    """Yield a line per kind of text: medians of ratios, and processor time per token."""
    by_way = {scheme: [one for one in found if one.way == scheme] for scheme in SCHEMES}
    for kind in dict.fromkeys(one.kind for one in found):
        rates = {
            scheme: [one.num_tokens / one.seconds for one in some if one.kind == kind]
            for scheme, some in by_way.items()
        }
        ratios = {
            scheme: statistics.median(a / b for a, b in zip(some, rates["llm"], strict=True))
            for scheme, some in rates.items()
        }
        better = [max(pair) for pair in zip(rates["llm"], rates["lossless"], strict=True)]
        against = statistics.median(a / b for a, b in zip(rates["auto"], better, strict=True))
        shown = ", ".join(f"{scheme} {ratio:.2f}" for scheme, ratio in ratios.items() if scheme != "llm")
        yield (
            f"{trip:3} ms, {kind:10}: llm {statistics.median(rates['llm']):.2f} tokens/s; of it {shown}; "
            f"auto {against:.2f} of the better ({len(better)} prompts)"
        )
    for scheme, some in by_way.items():
        tokens = sum(one.num_tokens for one in some)
        cpu, worker = sum(one.cpu for one in some), sum(one.worker_cpu for one in some)
        yield (
            f"{trip:3} ms, {scheme:10}: {tokens / sum(one.seconds for one in some):.2f} tokens/s; CPU "
            f"{1000 * cpu / tokens:.0f} ms per token, of the worker {1000 * worker / tokens:.0f}"
        )


def main() -> None:
    """Measure and print."""
    parser = command_parser("benchmarks.scheme_choice", __doc__)
    parser.add_argument("--rounds", type=int, default=2, help="how often the recorded texts are drafted")
    parser.add_argument("--drafts-ms", type=int, nargs="+", default=DRAFTS_MS, help="of the grid")
    parser.add_argument(
        "--passes-ms", type=int, nargs="+", default=list(PASSES_MS), choices=PASSES_MS, help="of the grid"
    )
    parser.add_argument("--draft", help="measure for real with this draft model")
    parser.add_argument("--target", default="demo", help="with --draft: the target model")
    parser.add_argument("--dtype", default="bfloat16", help="with --draft: the target's precision")
    parser.add_argument("--num-threads", type=int, default=2, help="with --draft: of the worker")
    parser.add_argument("--prompts", type=int, default=3, help="with --draft: of each kind of text")
    parser.add_argument("--max-tokens", type=int, default=48, help="with --draft: of an answer")
    parser.add_argument("--temperature", type=float, help="with --draft (default: the model's)")
    parser.add_argument("--round-trips-ms", type=int, nargs="+", default=ROUND_TRIPS_MS, help="of both")
    flags = parser.parse_args()
    if flags.draft is None:
        for line in grid(flags.rounds, flags.drafts_ms, flags.passes_ms, flags.round_trips_ms):
            print(line, flush=True)
        return
    for trip in flags.round_trips_ms:
        for line in report(trip, asyncio.run(real(flags, trip))):
            print(line, flush=True)


if __name__ == "__main__":
    main()
