"""Score the texts of each scheme on held-out commands: exact match, and agreement with the target's text.

    python -m evaluation quality
    python -m evaluation quality --num 20 --seeds 1 --scheme opportunistic --scheme lossless

Every scheme answers every command, at its default threshold and at those of the pair's calibration, sampled
with several seeds and greedily. Texts do not depend on the network, so none is used. The command can be
interrupted at any time; the same command resumes.
"""

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from common.process.settings import SettingsError
from edge_agent.errors import CalibrationError
from edge_agent.policy.schemes import SCHEMES
from edge_agent.session.transcript import Fate
from edge_agent.tuning.calibration import FILE_NAME, Calibration
from evaluation.models.pair import Pair, add_pair_flags, default_cache, open_pair
from evaluation.models.undelayed import write
from evaluation.quality.page import Scored, table, write_page
from evaluation.quality.scores import Answer, score
from evaluation.quality.variants import REFERENCE, Variant, variants
from evaluation.reporting.finished import Finished
from evaluation.reporting.results import header
from evaluation.smart_home.held_out import HeldOut, held_out

BUDGETS = (0.01, 0.02)
MAX_TOKENS = 256
GREEDY = 0.0
GREEDY_SEED = 1
SEEDS_APART = 1_000_000  # more than the number of commands, so that no two answers share random numbers


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of the command."""
    add_pair_flags(parser)
    parser.add_argument("--num", type=int, help="number of held-out commands (default: all 200)")
    parser.add_argument("--seeds", type=int, default=3, help="sampled answers per command")
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
        type=Path,
        help=f"file with the thresholds to try (default: {FILE_NAME} of the draft model)",
    )
    parser.add_argument("--page", type=Path, default=Path("quality"), help="folder for the page")
    parser.add_argument(
        "--work", type=Path, help="folder for finished answers (default: in the user's cache folder)"
    )


def run(flags: argparse.Namespace) -> int:
    """Write the answers, score them and write the page; return 0 on success."""
    for name in ("num", "seeds"):
        if getattr(flags, name) is not None and getattr(flags, name) < 1:
            raise SettingsError(f"--{name} must be at least 1, got {getattr(flags, name)}")
    commands = held_out(flags.num)
    work = flags.work or default_cache().parent / "quality"
    with open_pair(flags) as pair:
        chosen = _variants(flags, pair)
        finished = Finished(work, f"{pair.key} {pair.info.sampling} {MAX_TOKENS}")
        sampled = _scores(pair, chosen, commands, range(1, flags.seeds + 1), None, finished)
        greedy = _scores(pair, chosen, commands, (GREEDY_SEED,), GREEDY, finished)
    intro = (
        f"{len(commands)} held-out commands, draft model {flags.draft}, target model {flags.target}. "
        f"Sampled: {flags.seeds} answers per command at the model's temperature. Intervals are 95 %: "
        "Wilson's for shares (the answers to a command count as one trial), and from 1,000 resamples of the "
        "commands for the others."
    )
    command = shlex.join(["python", "-m", "evaluation", *sys.argv[1:]])
    write_page(flags.page, f"{header(command)}\n\n{intro}", {"Sampled": sampled, "Greedy": greedy})
    print(table(sampled))
    print(f"wrote {flags.page / 'quality.md'}")
    return 0


def _variants(flags: argparse.Namespace, pair: Pair) -> list[Variant]:
    path = flags.calibration or pair.info.folder / FILE_NAME
    calibration = None
    if path.exists() or flags.calibration is not None:
        try:
            calibration = Calibration.from_json(path.read_text(encoding="utf-8"))
        except CalibrationError as error:
            raise SettingsError(
                f"{path} cannot be used: {error}; run `python -m evaluation calibrate`"
            ) from error
    wanted = {*(flags.scheme or SCHEMES), REFERENCE}
    return [each for each in variants(calibration, flags.risk or BUDGETS) if each.scheme in wanted]


def _scores(
    pair: Pair,
    chosen: Sequence[Variant],
    commands: Sequence[HeldOut],
    seeds: Sequence[int],
    temperature: float | None,
    finished: Finished,
) -> Scored:
    """Score each variant over all commands and seeds; `temperature` None is the model's own."""
    answers: dict[str, list[Answer]] = {each.key: [] for each in chosen}
    title = "sampled" if temperature is None else "greedy"
    pieces = [(number, seed) for number in range(len(commands)) for seed in seeds]
    with tqdm(total=len(answers) * len(pieces), desc=title, unit="answer", file=sys.stderr) as bar:
        for variant in {each.key: each for each in chosen}.values():
            for number, seed in pieces:
                key = f"{title} {variant.key} {seed} {commands[number].command}"
                fields = finished.get(key)
                if fields is None:
                    fields = _answer(pair, variant, temperature, commands[number], number, seed).to_json()
                    finished.add(key, fields)
                answers[variant.key].append(Answer.from_json(fields))
                bar.update()
    reference = next(answers[each.key] for each in chosen if each.scheme == REFERENCE)
    return [(each, score(answers[each.key], reference)) for each in chosen]


def _answer(
    pair: Pair, variant: Variant, temperature: float | None, command: HeldOut, number: int, seed: int
) -> Answer:
    """Generate one answer; every command and seed has its own random numbers."""
    written = write(
        pair,
        variant.config(temperature, MAX_TOKENS),
        pair.prompt(command.command),
        SEEDS_APART * seed + number,
        calibration=variant.fit,
    )
    tally = written.tally
    return Answer(
        prompt=number,
        seed=seed,
        tokens=written.tokens,
        is_right=command.is_right(written.text),
        num_skipped=tally.num_by_fate[Fate.LOCAL],
        num_measured=tally.num_measured,
        risk_sum=tally.measured_risk_sum,
    )
