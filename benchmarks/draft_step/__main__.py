"""Measure what a draft token costs beside the run of the draft model, per scheme and sampling.

    python -m benchmarks.draft_step --model FOLDER [--gguf FILE]

For every token, one after the other: a bare run of the graph, our whole step (the run, the choice, the
session, the text, messages up to their bytes; a worker in this process accepts everything), and where the
packages are installed a step of onnxruntime-genai on the same folder and of llama.cpp on the same weights as
a GGUF file. Printed are medians per token in milliseconds, and the medians of the ratios within a token.
"around" is our step less the run within it, "share" its ratio to that run. Processor time counts all threads.
FOLDER must hold a graph that onnxruntime-genai's builder made.
"""

import argparse
import asyncio
from collections.abc import Callable
from pathlib import Path

from benchmarks.draft_step.generations import Bench
from benchmarks.draft_step.peers import genai_step, llama_step, missing
from benchmarks.draft_step.runs import Steps
from common.process.paths import path_flag
from common.sampling.distribution import Sampling
from edge_agent.generation.draft_thread import DraftThread
from evaluation.help_format import command_parser

SAMPLINGS = {"greedy": Sampling(0.0), "temperature 1": Sampling(1.0), "Qwen's": Sampling(0.7, 20, 0.8)}
SCHEMES = ("lossless", "opportunistic", "u-hlm", "hlm")
PEERS_WITH = "lossless"  # the peers know no schemes: they take turns with this one
HEADER = f"{'scheme':14} {'sampling':14} {'bare':>7} {'whole':>7} {'ratio':>6} {'around':>7} {'share':>6}"
CPU_HEADER = f"{'cpu bare':>9} {'whole':>7} {'ratio':>6} {'around':>7} {'share':>6}"


async def steps_of(
    bench: Bench,
    scheme: str,
    sampling: Sampling,
    context: int,
    count: int,
    peers: dict[str, Callable[[], None]],
) -> Steps:
    """Generate `count` tokens after a prompt of `context` tokens, and return their steps."""
    prompt = bench.prompt(context)
    bench.runs.steps = None
    bench.model.logits(prompt)
    generation = bench.generation(scheme, sampling, prompt, count + 2)
    steps = bench.runs.start(peers)
    async for _ in generation:
        pass
    bench.runs.steps = None
    return steps


def line(scheme: str, sampling: str, steps: Steps) -> str:
    """Return one row of the table: wall times, then processor times, in milliseconds."""
    around = [whole - inside for whole, inside in zip(steps.whole, steps.inside, strict=False)]
    wall, cpu = steps.ratio(steps.whole, steps.bare)
    wall_share, cpu_share = steps.ratio(around, steps.inside)
    return (
        f"{scheme:14} {sampling:14} {steps.wall(steps.bare):7.2f} {steps.wall(steps.whole):7.2f} "
        f"{wall:6.3f} {steps.wall(around):7.3f} {wall_share:6.1%} {steps.cpu(steps.bare):9.2f} "
        f"{steps.cpu(steps.whole):7.2f} {cpu:6.3f} {steps.cpu(around):7.3f} {cpu_share:6.1%}"
    )


def peer_line(name: str, sampling: str, steps: Steps) -> str:
    """Return a peer's row: its step, and our whole step over it."""
    theirs = steps.peers[name]
    wall, cpu = steps.ratio(steps.whole, theirs)
    return (
        f"{name:14} {sampling:14} {'':7} {steps.wall(theirs):7.2f} {wall:6.3f} <- ours / theirs"
        f"{'':7} {steps.cpu(theirs):7.2f} {cpu:6.3f} <- cpu"
    )


def peers_for(
    flags: argparse.Namespace,
    folder: Path,
    gguf: Path | None,
    prompt: list[int],
    threads: int,
    sampling: Sampling,
) -> dict[str, Callable[[], None]]:
    """Load the peers that are installed and wanted."""
    found: dict[str, Callable[[], None]] = {}
    if flags.peers and not missing("onnxruntime_genai"):
        found["genai"] = genai_step(folder, threads, prompt, sampling)
    if flags.peers and gguf is not None and not missing("llama_cpp"):
        found["llama.cpp"] = llama_step(gguf, threads, prompt, sampling)
    return found


def measure(flags: argparse.Namespace, folder: Path, gguf: Path | None, threads: int) -> None:
    """Measure one graph with one number of threads."""
    with DraftThread() as thread:
        bench = Bench.load(folder, thread, threads)
        for context in flags.contexts:
            print(
                f"\n{folder.name}, {threads} thread(s), context {context}\n{HEADER} {CPU_HEADER}", flush=True
            )
            for scheme in flags.schemes:
                for name in flags.samplings:
                    sampling, prompt = SAMPLINGS[name], bench.prompt(context)
                    wants_peers = scheme == PEERS_WITH and name != "temperature 1"
                    peers = peers_for(flags, folder, gguf, prompt, threads, sampling) if wants_peers else {}
                    steps = asyncio.run(steps_of(bench, scheme, sampling, context, flags.tokens, peers))
                    print(line(scheme, name, steps), flush=True)
                    for peer in peers:
                        print(peer_line(peer, name, steps), flush=True)


def main() -> None:
    """Measure and print."""
    parser = command_parser("benchmarks.draft_step", __doc__)
    parser.add_argument(
        "--model", type=path_flag, action="append", required=True, help="a graph's folder; repeatable"
    )
    parser.add_argument(
        "--gguf", type=path_flag, action="append", default=[], help="its weights, one per --model"
    )
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="threads of each engine")
    parser.add_argument("--contexts", type=int, nargs="+", default=[64, 512, 1024], help="tokens before")
    parser.add_argument("--tokens", type=int, default=24, help="tokens per row of the table, at most 60")
    parser.add_argument("--schemes", nargs="+", choices=SCHEMES, default=SCHEMES, help="what to measure")
    parser.add_argument("--samplings", nargs="+", choices=SAMPLINGS, default=list(SAMPLINGS), help="and how")
    parser.add_argument("--no-peers", dest="peers", action="store_false", help="leave the other engines out")
    flags = parser.parse_args()
    for package, name in (("onnxruntime_genai", "onnxruntime-genai"), ("llama_cpp", "llama-cpp-python")):
        if flags.peers and missing(package):
            print(f"{name} is not installed: left out")
    if flags.peers and not flags.gguf:
        print("no --gguf: llama.cpp is left out")
    for index, folder in enumerate(flags.model):
        gguf = flags.gguf[index] if index < len(flags.gguf) else None
        for threads in flags.threads:
            measure(flags, folder, gguf, threads)


if __name__ == "__main__":
    main()
