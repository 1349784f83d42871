"""Measure what the schema of the home costs and saves: the same commands with and without it.

    python -m evaluation structured
    python -m evaluation structured --num 20 --seeds 1

The demo pair answers each held-out command over a broker and a worker on this machine, each time with the
same seeds. The command can be interrupted at any time; the same command resumes.
"""

import argparse
import asyncio
import shlex
import sys
from collections.abc import Sequence
from dataclasses import astuple
from pathlib import Path

from tqdm import tqdm

from common.process.paths import path_flag
from common.process.settings import SettingsError
from edge_agent.agent import EdgeAgent
from edge_agent.config import AgentConfig
from edge_agent.draft_model.files import DEMO_FOLDER
from edge_agent.policy.schemes import SCHEMES
from evaluation.local.broker import LocalBroker
from evaluation.local.worker import LocalWorker
from evaluation.models.pair import default_cache
from evaluation.reporting.finished import Finished
from evaluation.reporting.results import RESULTS, RESULTS_HELP, header
from evaluation.smart_home.held_out import HeldOut, held_out
from evaluation.structured.answering import (
    SEEDS_APART,
    Answered,
    CountedModel,
    Variant,
    answered,
    variants,
)
from evaluation.structured.page import write_page

NUM_SEEDS = 5


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of the command."""
    parser.add_argument("--num", type=int, help="number of held-out commands (default: all 200)")
    parser.add_argument("--seeds", type=int, default=NUM_SEEDS, help="answers per command")
    parser.add_argument("--scheme", choices=tuple(SCHEMES), default="lossless", help="scheme of the answers")
    parser.add_argument(
        "--out", type=path_flag, default=RESULTS, help=f"folder for the page ({RESULTS_HELP})"
    )
    parser.add_argument(
        "--work", type=path_flag, help="folder for finished answers (default: in the user's cache folder)"
    )


def run(flags: argparse.Namespace) -> int:
    """Measure, and write the page; returns 0 on success."""
    for name in ("num", "seeds"):
        if getattr(flags, name) is not None and getattr(flags, name) < 1:
            raise SettingsError(f"--{name} must be at least 1, got {getattr(flags, name)}")
    commands = held_out(flags.num)
    work: Path = flags.work or default_cache().parent / "structured"
    found = _found(commands, flags.seeds, flags.scheme, Finished(work, flags.scheme))
    command = shlex.join(["python", "-m", "evaluation", *sys.argv[1:]])
    introduction = (
        f"{header(command)}\n\n{len(commands)} held-out commands, {flags.seeds} answers each at the model's "
        f"temperature, scheme {flags.scheme}. In parentheses: 95 % intervals from "
        "1,000 resamples of the commands."
    )
    print(write_page(flags.out, introduction, found, len(commands)))
    return 0


def _found(
    commands: Sequence[HeldOut], num_seeds: int, scheme: str, finished: Finished
) -> dict[Variant, list[Answered]]:
    """The answers of each variant, in the order seed, command."""
    chosen = variants()
    pieces = [(seed, number) for seed in range(num_seeds) for number in range(len(commands))]
    keys = {piece: f"{piece[0]} {commands[piece[1]].command}" for piece in pieces}
    missing = [piece for piece in pieces if finished.get(keys[piece]) is None]
    if missing:
        asyncio.run(_answer(chosen, commands, missing, scheme, keys, finished))
    rows = [[Answered(*fields) for fields in finished.get(keys[piece]) or ()] for piece in pieces]
    return {variant: [row[index] for row in rows] for index, variant in enumerate(chosen)}


async def _answer(
    chosen: Sequence[Variant],
    commands: Sequence[HeldOut],
    missing: Sequence[tuple[int, int]],
    scheme: str,
    keys: dict[tuple[int, int], str],
    finished: Finished,
) -> None:
    model = CountedModel.load(DEMO_FOLDER)
    assert isinstance(model, CountedModel)
    with LocalBroker() as broker, LocalWorker(broker.url, "--model", "demo"):
        config = AgentConfig(broker=broker.url, scheme=scheme)
        async with EdgeAgent.open(config, model=model) as agent:
            for one in chosen:  # the worker compiles each schema once, for all answers
                await answered(agent, model, one, commands[0], 0)
            for piece in tqdm(missing, unit="command", file=sys.stderr):
                seed, number = piece
                row = [
                    await answered(agent, model, one, commands[number], SEEDS_APART * (seed + 1) + number)
                    for one in chosen
                ]
                finished.add(keys[piece], [astuple(one) for one in row])
