"""Measure how well a pair's uncertainty predicts rejection, and derive thresholds.

    python -m evaluation calibrate                                      # the demo pair
    python -m evaluation calibrate --draft drafts/small --target LARGE --prompts prompts.txt

Both models answer the prompts, and the target model judges each draft token. The command writes
calibration.json next to the draft model, where edge-agent finds it, and a page with tables and pictures. It
can be interrupted at any time; the same command resumes.
"""

import argparse
import shlex
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic

from tqdm import tqdm

from common.process.paths import path_flag
from common.process.settings import SettingsError
from common.sampling.distribution import Sampling
from edge_agent.assembly import choose_sampling
from edge_agent.config import AgentConfig
from edge_agent.draft_model.files import DEMO, DEMO_FOLDER
from edge_agent.errors import CalibrationError
from edge_agent.policy.schemes import SCHEMES
from edge_agent.policy.uncertainty import DEFAULT_ESTIMATOR, ESTIMATORS
from edge_agent.tuning.calibration import FILE_NAME, Calibration
from edge_agent.tuning.risk_control import DEFAULT_RISK
from evaluation.calibrate.analysis import Analysis, analyse
from evaluation.calibrate.blocks import to_html, to_markdown
from evaluation.calibrate.page import page_blocks
from evaluation.calibrate.prompts import read_prompts
from evaluation.calibrate.samples import HYBRID, TARGET, Walk
from evaluation.calibrate.tradeoff import THETA
from evaluation.calibrate.walking import walk_prompt
from evaluation.models.pair import Pair, add_pair_flags, default_cache, open_pair
from evaluation.reporting.finished import Finished
from evaluation.reporting.results import CHECKOUT, header, write_csv, write_section
from evaluation.smart_home.fresh import NUM_FRESH, fresh_commands

SCHEME = "opportunistic"  # writes the hybrid's text, and draws from the distribution that it would send
RISKS = (0.001, 0.01, 0.02, 0.05)


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of the command."""
    add_pair_flags(parser)
    scheme = SCHEMES[SCHEME]
    parser.add_argument(
        "--prompts",
        type=path_flag,
        help="file with one prompt per line, or .jsonl (default for the demo pair: newly drawn commands)",
    )
    parser.add_argument("--field", default="prompt", help="the field of a .jsonl line that holds the prompt")
    parser.add_argument(
        "--num",
        type=int,
        help=f"use this many prompts (default: all of the file; {NUM_FRESH} drawn commands)",
    )
    parser.add_argument("--seed", type=int, default=1, help="seed of the first prompt; the others count up")
    parser.add_argument("--temperature", type=float, help="sampling; 0 is greedy (default: the model's)")
    parser.add_argument("--top-k", type=int, help="sampling; 0 is off (default: the model's)")
    parser.add_argument("--top-p", type=float, help="sampling; 1 is off (default: the model's)")
    parser.add_argument("--max-tokens", type=int, default=256, help="longest answer, in tokens")
    parser.add_argument("--max-ids", type=int, default=32, help="ids sent per distribution")
    parser.add_argument(
        "--threshold",
        type=float,
        help="threshold while the hybrid writes; with 1 the draft model writes alone, which is fastest "
        f"(default: 1; {scheme.threshold:g} for the demo pair)",
    )
    parser.add_argument(
        "--target-text",
        action=argparse.BooleanOptionalAction,
        help="judge draft tokens along the target model's own text too (default: for the demo pair only)",
    )
    parser.add_argument(
        "--estimator",
        choices=tuple(ESTIMATORS),
        help="the uncertainty that the thresholds are for (default: the best one)",
    )
    parser.add_argument(
        "--theta",
        type=float,
        default=THETA,
        help="truncation error tolerated for k* (the papers publish no value)",
    )
    parser.add_argument(
        "--risk",
        type=float,
        action="append",
        help="risk budget to report; repeatable, and the first one sets the threshold of the file "
        f"(default: {', '.join(map(str, RISKS))}; {DEFAULT_RISK:g} sets the threshold)",
    )
    parser.add_argument(
        "--out",
        type=path_flag,
        help=f"the calibration file (default: {FILE_NAME} next to the draft model, or in the current folder "
        "where that model is installed)",
    )
    parser.add_argument("--page", type=path_flag, default=Path("calibration"), help="folder for the page")
    parser.add_argument(
        "--work", type=path_flag, help="folder for finished prompts (default: in the user's cache folder)"
    )


def run(flags: argparse.Namespace) -> int:
    """Measure, analyse and write; return 0 on success."""
    prompts = _prompts(flags)
    config = _config(flags)
    along_target = _is_demo(flags) if flags.target_text is None else flags.target_text
    with open_pair(flags, keeps_logits=False, keeps_penalties=True) as pair:
        identity = f"{_identity(pair, config)} {along_target}"
        finished = Finished(flags.work or default_cache().parent / "calibrate", identity)
        walks = _walk(pair, config, prompts, flags.seed, finished, along_target=along_target)
    sampling = choose_sampling(config, pair.info.sampling)
    try:
        found = analyse(walks, flags.estimator, flags.risk or RISKS, flags.theta, _bar)
    except CalibrationError as error:
        raise SettingsError(str(error)) from error
    out = flags.out or _default_out(pair.info.folder)
    out.parent.mkdir(parents=True, exist_ok=True)
    risk = flags.risk[0] if flags.risk else DEFAULT_RISK
    out.write_text(_calibration(pair, sampling, found, risk).to_json(), encoding="utf-8")
    _write_page(flags, pair, sampling, found, len(prompts))
    _print_summary(found, out, flags.page)
    return 0


def _default_out(draft_folder: Path) -> Path:
    """Beside the draft model; an installed package is not written to."""
    is_installed = draft_folder == DEMO_FOLDER and CHECKOUT is None
    return (Path.cwd() if is_installed else draft_folder) / FILE_NAME


def _prompts(flags: argparse.Namespace) -> list[str]:
    if flags.num is not None and flags.num < 1:
        raise SettingsError(f"--num must be at least 1, got {flags.num}")
    if flags.prompts is not None:
        return read_prompts(flags.prompts, flags.field)[: flags.num]
    if flags.draft != DEMO:
        raise SettingsError("a pair of your own needs its own prompts: give --prompts FILE, one per line")
    return fresh_commands(flags.num or NUM_FRESH)


def _is_demo(flags: argparse.Namespace) -> bool:
    return flags.draft == flags.target == DEMO


def _config(flags: argparse.Namespace) -> AgentConfig:
    names = ("temperature", "top_k", "top_p", "max_tokens", "max_ids")
    given = {name: getattr(flags, name) for name in names}
    threshold = flags.threshold
    if threshold is None:
        threshold = SCHEMES[SCHEME].threshold if _is_demo(flags) else 1.0
    estimator = flags.estimator or DEFAULT_ESTIMATOR
    try:
        return AgentConfig(scheme=SCHEME, threshold=threshold, estimator=estimator, **given)
    except ValueError as error:
        raise SettingsError(str(error)) from error


def _identity(pair: Pair, config: AgentConfig) -> str:
    """Return everything that a walk depends on except prompt and seed."""
    sampling = choose_sampling(config, pair.info.sampling)
    return (
        f"{pair.key} {sampling} {config.threshold} {config.estimator} {config.max_ids} {config.max_tokens} "
        f"{sorted(ESTIMATORS)}"
    )


def _walk(
    pair: Pair,
    config: AgentConfig,
    prompts: Sequence[str],
    seed: int,
    finished: Finished,
    *,
    along_target: bool,
) -> dict[str, list[Walk]]:
    walks: dict[str, list[Walk]] = {HYBRID: [], TARGET: []}
    is_estimated = False
    for number, prompt in enumerate(tqdm(prompts, desc="prompts", unit="prompt", file=sys.stderr)):
        key = f"{seed + number} {prompt}"
        done = finished.get(key)
        if done is None:
            began = monotonic()
            walked = walk_prompt(pair, config, prompt, seed + number, along_target=along_target)
            done = {name: walk.to_json() for name, walk in walked.items()}
            finished.add(key, done)
            if not is_estimated:
                is_estimated, num_tokens = True, len(walked[HYBRID].seen)
                left = len(prompts) - number - 1
                line = estimate(monotonic() - began, num_tokens, config.max_tokens, left)
                tqdm.write(line, file=sys.stderr)
        for name, fields in done.items():
            walks[name].append(Walk.from_json(fields))
    return walks


def estimate(seconds: float, num_tokens: int, max_tokens: int, num_left: int) -> str:
    """What the first prompt says about the time of the others, which may have longer answers."""
    usual = seconds * num_left
    longest = usual * max_tokens / max(1, num_tokens)
    return (
        f"the first prompt took {seconds:.0f} s for {num_tokens} tokens: about {usual / 60:.1f} minutes for "
        f"the other {num_left}, at most {longest / 60:.1f}"
    )


def _bar(items: Iterable[int]) -> Iterable[int]:
    return tqdm(items, desc="intervals", unit="resample", file=sys.stderr)


def _calibration(pair: Pair, sampling: Sampling, found: Analysis, risk: float) -> Calibration:
    """The file; its threshold is the largest one that keeps to `risk`."""
    times = found.times
    threshold = max((each.threshold for each in found.points if each.risk <= risk), default=0.0)
    return Calibration(
        tokenizer=pair.text.fingerprint.hex(),
        draft_model=pair.draft_name,
        target_model=pair.target_name,
        sampling=sampling,
        estimator=found.estimator,
        num_tokens=found.hybrid.num_tokens,
        date=f"{datetime.now(UTC):%Y-%m-%d}",
        fit=found.line.fit,
        risk_prone=found.line.risk_prone.value,
        offline_k=found.offline_k,
        operating_points=found.points,
        sent_ks=found.sent_ks,
        threshold=threshold,
        acceptance=1.0 - found.levels[HYBRID].rejection.value,
        draft_seconds=times.draft_seconds,
        pass_seconds=times.pass_seconds,
        row_seconds=times.row_seconds,
    )


def _write_page(
    flags: argparse.Namespace, pair: Pair, sampling: Sampling, found: Analysis, num_prompts: int
) -> None:
    command = shlex.join(["python", "-m", "evaluation", *sys.argv[1:]])
    name = f"Draft model {pair.draft_name}, target model {pair.target_name}"
    page = page_blocks(found, header=header(command), pair=name, sampling=sampling, num_prompts=num_prompts)
    flags.page.mkdir(parents=True, exist_ok=True)
    write_section(flags.page / "calibration.md", "calibration", to_markdown(page, flags.page))
    (flags.page / "calibration.html").write_text(to_html("Calibration", page), encoding="utf-8")
    rows = [
        (name, each.threshold, each.risk, each.uplink_rate)
        for name, points in found.points_of.items()
        for each in points
    ]
    write_csv(flags.page / "calibration.csv", ("estimator", "threshold", "risk", "uplink_rate"), rows)


def _print_summary(found: Analysis, out: Path, page: Path) -> None:
    line = found.line
    level = found.levels[HYBRID]
    print(f"{level.num_tokens} draft tokens; mean rejection probability {level.rejection:.4f}")
    print(f"beta ~ {line.slope:.3f} u + {line.intercept:.4f}, with u of {found.estimator}")
    best = found.associations.best("auroc")
    print(f"best by AUROC: {best}, {found.associations.of(best, 'auroc'):.3f}")
    for each in found.choices:
        print(
            f"{each.name}: threshold {each.threshold:.4f}, risk {each.risk:.4f}, "
            f"uplink rate {each.uplink_rate:.3f}"
        )
    print(f"offline k* = {found.offline_k}")
    print(f"wrote {out} and {page / 'calibration.html'}")
