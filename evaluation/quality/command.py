"""Score the texts of each scheme on held-out commands: exact match, agreement with the target's text, drift.

    python -m evaluation quality
    python -m evaluation quality --num 20 --seeds 1 --scheme opportunistic --scheme lossless
    python -m evaluation quality --replies docs/results     # the page again, from the replies in that folder

Every scheme answers every command, as published, at its default threshold and at those of the pair's
calibration, sampled with several seeds and greedily. Texts do not depend on the network, so none is used. The
command can be interrupted at any time; the same command resumes.
"""

import argparse
import hashlib
import shlex
import sys
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager
from dataclasses import astuple
from multiprocessing import get_context
from multiprocessing.pool import Pool
from pathlib import Path
from typing import TypeAlias

from tqdm import tqdm

from common.process.paths import path_flag
from common.process.settings import SettingsError
from edge_agent.errors import CalibrationError
from edge_agent.policy.schemes import SCHEMES
from edge_agent.tuning.calibration import FILE_NAME, Calibration
from evaluation.models.pair import Pair, add_pair_flags, default_cache, open_pair
from evaluation.quality.answering import MAX_TOKENS, replies
from evaluation.quality.page import table, write_page
from evaluation.quality.replies import read_replies, write_replies
from evaluation.quality.reply import Replies, Reply
from evaluation.quality.scores import scores
from evaluation.quality.setting import GREEDY, REFERENCE, SAMPLED, Setting
from evaluation.quality.variants import matched, settings
from evaluation.reporting.finished import Finished
from evaluation.reporting.results import header
from evaluation.smart_home.held_out import HeldOut, held_out

BUDGETS = (0.01, 0.02)
NUM_SEEDS = 5
GREEDY_SEED = 1
MATCHED = "u-hlm"  # rand-hlm sends as often as this
SEEDS_APART = 1_000_000  # more than the number of commands, so that no two replies share random numbers

Piece: TypeAlias = tuple[Sequence[Setting], int, HeldOut, int]


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of the command."""
    add_pair_flags(parser)
    parser.add_argument("--num", type=int, help="number of held-out commands (default: all 200)")
    parser.add_argument("--seeds", type=int, default=NUM_SEEDS, help="sampled replies per command")
    parser.add_argument(
        "--scheme", action="append", choices=tuple(SCHEMES), help="scheme to score; repeatable (default: all)"
    )
    parser.add_argument(
        "--risk",
        type=float,
        action="append",
        help=f"risk budget for opportunistic; repeatable (default: {', '.join(map(str, BUDGETS))})",
    )
    parser.add_argument(
        "--calibration",
        type=path_flag,
        help=f"file with the thresholds to try (default: {FILE_NAME} of the draft model)",
    )
    parser.add_argument("--page", type=path_flag, default=Path("quality"), help="folder for the page")
    parser.add_argument(
        "--work", type=path_flag, help="folder for finished replies (default: in the user's cache folder)"
    )
    parser.add_argument("--jobs", type=int, default=1, help="processes that write replies")
    parser.add_argument(
        "--replies",
        type=path_flag,
        help="folder with quality-replies.csv: derive the page again, run no model",
    )


def run(flags: argparse.Namespace) -> int:
    """Write the replies, score them and write the page; return 0 on success."""
    for name in ("num", "seeds", "jobs"):
        if getattr(flags, name) is not None and getattr(flags, name) < 1:
            raise SettingsError(f"--{name} must be at least 1, got {getattr(flags, name)}")
    if flags.replies is None:
        write_replies(flags.page, *_written(flags))
    introduction, found = read_replies(flags.replies or flags.page)
    scored = scores(found)
    write_page(flags.page, introduction, found, scored)
    print(table([each for each in scored if each.setting.sampling == SAMPLED]))
    print(f"wrote {flags.page / 'quality.md'}")
    return 0


def _written(flags: argparse.Namespace) -> tuple[str, Replies]:
    """Return the page's first lines and all replies."""
    commands = held_out(flags.num)
    work = flags.work or default_cache().parent / "quality"
    found: dict[Setting, Sequence[Reply]] = {}
    with open_pair(flags, keeps_logits=False) as pair:
        finished = Finished(work, f"{pair.key} {pair.info.sampling} {MAX_TOKENS}")
        calibration = _calibration(flags, pair)
        with _writers(flags, pair) as write_all:
            for sampling, seeds in ((SAMPLED, range(1, flags.seeds + 1)), (GREEDY, (GREEDY_SEED,))):
                pieces = [(number, seed) for number in range(len(commands)) for seed in seeds]
                wanted = {*(flags.scheme or SCHEMES), REFERENCE}
                wanted |= {MATCHED} if "rand-hlm" in wanted else set()
                chosen = [
                    each
                    for each in settings(calibration, flags.risk or BUDGETS, sampling)
                    if each.scheme in wanted
                ]
                found |= _replies(chosen, commands, pieces, finished, write_all)
                if "rand-hlm" in wanted:
                    rates = [(each.choice, _uplink_rate(found[each])) for each in chosen if _matches(each)]
                    found |= _replies(matched(rates, sampling), commands, pieces, finished, write_all)
    introduction = (
        f"{len(commands)} held-out commands, draft model {flags.draft}, target model {flags.target}. "
        f"Sampled: {flags.seeds} replies per command at the model's temperature. Intervals are 95 %: "
        "Wilson's for shares (the replies to a command count as one trial), and from 1,000 resamples of the "
        "commands for the others."
    )
    command = shlex.join(["python", "-m", "evaluation", *sys.argv[1:]])
    return f"{header(command)}\n\n{introduction}", found


def _matches(setting: Setting) -> bool:
    """Whether rand-hlm is also run at the uplink rate of a setting."""
    return setting.scheme == MATCHED and setting.choice.startswith(("risk-averse", "risk-prone"))


def _uplink_rate(found: Sequence[Reply]) -> float:
    return 1.0 - sum(each.skipped for each in found) / sum(each.tokens for each in found)


def _calibration(flags: argparse.Namespace, pair: Pair) -> Calibration | None:
    path = flags.calibration or pair.info.folder / FILE_NAME
    if not path.exists() and flags.calibration is None:
        return None
    try:
        return Calibration.from_json(path.read_text(encoding="utf-8"))
    except CalibrationError as error:
        raise SettingsError(
            f"{path} cannot be used: {error}; run `python -m evaluation calibrate`"
        ) from error


class _Writer:
    """Writes pieces in this process, or in several, each with a pair of its own."""

    def __init__(self, pair: Pair, pool: Pool | None) -> None:
        self._pair = pair
        self._pool = pool

    def __call__(self, pieces: Sequence[Piece]) -> Iterable[list[Reply]]:
        """Yield the replies of each piece, in order."""
        if self._pool is None:
            return (_write(self._pair, piece) for piece in pieces)
        return self._pool.imap(_write_there, pieces)


@contextmanager
def _writers(flags: argparse.Namespace, pair: Pair) -> Generator[_Writer]:
    if flags.jobs == 1:
        yield _Writer(pair, None)
        return
    with get_context("spawn").Pool(flags.jobs, _open_there, (flags,)) as pool:
        yield _Writer(pair, pool)


_there: list[Pair] = []  # the pair of a process of the pool


def _open_there(flags: argparse.Namespace) -> None:
    _there.append(open_pair(flags, keeps_logits=False).__enter__())


def _write_there(piece: Piece) -> list[Reply]:
    return _write(_there[0], piece)


def _write(pair: Pair, piece: Piece) -> list[Reply]:
    chosen, number, command, seed = piece
    return replies(pair, chosen, number, command, seed, SEEDS_APART * seed + number)


def _replies(
    chosen: Sequence[Setting],
    commands: Sequence[HeldOut],
    pieces: Sequence[tuple[int, int]],
    finished: Finished,
    write_all: _Writer,
) -> dict[Setting, Sequence[Reply]]:
    """Return the replies of each setting to all pieces (command number, seed)."""
    if not chosen:
        return {}
    digest = hashlib.sha256("\n".join(each.key for each in chosen).encode()).hexdigest()[:16]
    keys = {piece: f"{digest} {piece[1]} {commands[piece[0]].command}" for piece in pieces}
    missing = [piece for piece in pieces if finished.get(keys[piece]) is None]
    made = write_all([(chosen, number, commands[number], seed) for number, seed in missing])
    bar = tqdm(made, desc=chosen[0].sampling, total=len(missing), unit="command", file=sys.stderr)
    for piece, each in zip(missing, bar, strict=True):
        finished.add(keys[piece], [astuple(reply) for reply in each])
    rows = [[Reply(*fields) for fields in finished.get(keys[piece]) or ()] for piece in pieces]
    return {setting: [row[index] for row in rows] for index, setting in enumerate(chosen)}
