"""Count what a verified token costs on the wire: plain, packed, and the lower bound.

    python -m evaluation bytes

The agent's codec encodes the pair's own distributions, and synthetic ones for a large vocabulary. The command
writes bytes.md with tables, CSV files and a picture.
"""

import argparse
import shlex
import sys
from collections.abc import Sequence

import numpy as np
from tqdm import tqdm

from common.process.paths import path_flag
from common.process.settings import SettingsError
from common.protocol.limits import MAX_BLOCK_TOKENS
from common.protocol.messages import DraftToken
from common.sampling.distribution import LATTICE_TOTALS, Sampling
from edge_agent.policy.policy import Policy
from edge_agent.policy.schemes import SCHEMES
from evaluation.bytes.counting import Block, clock, count
from evaluation.bytes.page import GridRow, write_page
from evaluation.bytes.tokens import Seen, anything, blocks, drafted, spread, zipf
from evaluation.models.pair import Pair, add_pair_flags, open_pair
from evaluation.reporting.results import RESULTS, RESULTS_HELP
from evaluation.smart_home.held_out import held_out

VOCAB_SIZE = 32000  # as in the papers
EXPONENTS = (1.0, 1.5, 2.0)
GRID_EXPONENT = 1.5
GRID_KS = (8, 16, 30, 32, 64, 300)


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of the command."""
    add_pair_flags(parser)
    parser.add_argument("--max-ids", type=int, default=30, help="k, as in the papers")
    parser.add_argument("--commands", type=int, default=100, help="held-out commands to answer")
    parser.add_argument("--num", type=int, default=400, help="synthetic messages of each kind")
    parser.add_argument("--block", type=int, default=8, help="tokens per block")
    parser.add_argument(
        "--out", type=path_flag, default=RESULTS, help=f"folder for the page ({RESULTS_HELP})"
    )


def run(flags: argparse.Namespace) -> int:
    """Count, and write the page; SettingsError for numbers out of range."""
    if not 1 <= flags.block <= MAX_BLOCK_TOKENS or min(flags.max_ids, flags.commands, flags.num) < 1:
        raise SettingsError(
            f"--block must be 1 to {MAX_BLOCK_TOKENS}; --max-ids, --commands and --num at least 1"
        )
    with open_pair(flags) as pair:
        seen = _answers(pair, flags.max_ids, flags.commands)
        kinds = _kinds(seen, pair.vocab_size, flags)
    table = {name: count(messages, vocab_size) for name, (messages, vocab_size) in kinds.items()}
    grid = _grid(flags.num)
    command = shlex.join(["python", "-m", "evaluation", *sys.argv[1:]])
    write_page(flags.out, table, grid, max_ids=flags.max_ids, vocab_size=VOCAB_SIZE, command=command)
    print(f"wrote {flags.out / 'bytes.md'}")
    return 0


def _answers(pair: Pair, max_ids: int, num_commands: int) -> list[Seen]:
    """Return the draft tokens of the answers at temperature 1; each command has its own seed."""
    seen: list[Seen] = []
    scheme = SCHEMES["opportunistic"]
    commands = [one.command for one in held_out(num_commands)]
    for seed, command in enumerate(tqdm(commands, unit="command", disable=None)):
        policy = Policy(scheme, Sampling(), seed, scheme.threshold, max_ids=max_ids)
        seen += drafted(pair.draft, policy, pair.prompt(command), pair.vocab_size, pair.info.eos_ids)
    return seen


def _kinds(
    seen: Sequence[Seen], vocab_size: int, flags: argparse.Namespace
) -> dict[str, tuple[list[Block], int]]:
    """Return the blocks to send and the size of their vocabulary, by the name of the row."""
    rng = np.random.default_rng(0)
    total = LATTICE_TOTALS[0]

    def made(exponent: float) -> list[DraftToken]:
        return [
            zipf(exponent, max_ids=flags.max_ids, total=total, vocab_size=VOCAB_SIZE, rng=rng)
            for _ in range(flags.num)
        ]

    uncertain = [one.token for one in seen if one.uncertain]
    random = [anything(flags.max_ids, total=total, vocab_size=VOCAB_SIZE, rng=rng) for _ in range(flags.num)]
    spread_out = [spread(token, VOCAB_SIZE, rng) for token in uncertain]
    kinds = {"uniformly random": (blocks(random, 1), VOCAB_SIZE)}
    kinds |= {f"Zipf {exponent:g}": (blocks(made(exponent), 1), VOCAB_SIZE) for exponent in EXPONENTS}
    kinds |= {
        "pair's counts, random ids": (blocks(spread_out, 1), VOCAB_SIZE),
        "pair, uncertain tokens": (blocks(uncertain, 1), vocab_size),
        f"pair, all tokens, blocks of {flags.block}": (
            blocks([one.token for one in seen], flags.block),
            vocab_size,
        ),
    }
    return kinds


def _grid(num: int) -> list[GridRow]:
    """Return one row per k and l, for the middle one of the synthetic distributions."""
    rows: list[GridRow] = []
    for total in LATTICE_TOTALS:
        for k in GRID_KS:
            rng = np.random.default_rng(k)
            messages = blocks(
                [
                    zipf(GRID_EXPONENT, max_ids=k, total=total, vocab_size=VOCAB_SIZE, rng=rng)
                    for _ in range(num)
                ],
                1,
            )
            rows.append(GridRow(k, total, count(messages, VOCAB_SIZE), clock(messages)))
    return rows
