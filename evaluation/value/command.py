"""Answer an operator's question with a pair's own figures: what does a hybrid save, at equal quality?

    python -m evaluation value --draft FOLDER --target FOLDER

The pair is timed on this machine: draft tokens, and passes over one and several sessions. Its real logits
then run through the real session, scheduler, codec and verification in virtual time, over round trips of 10
to 200 ms, for streaming from the target (`llm`), for our schemes and for HLM. The page has, per 1,000 tokens:
seconds of the worker, positions, bytes, and the device's joules by a stated model; tokens per second and time
to the first token; and how many devices a worker carries. Finished parts are kept; the same command resumes.
"""

import argparse
import shlex
import sys
from pathlib import Path

from cloud_worker.target_model.loading import DEMO_FOLDER, DTYPES
from common.process.paths import path_flag
from common.process.settings import SettingsError
from edge_agent.device.energy import PROFILES
from edge_agent.draft_model.files import DEMO
from evaluation.fleet.inputs import INPUTS, load_inputs
from evaluation.models.pair import default_cache
from evaluation.reporting.finished import Finished
from evaluation.reporting.results import RESULTS, RESULTS_HELP, header
from evaluation.value import page
from evaluation.value.prompts import PROMPTS
from evaluation.value.stages import Asked, Asking, measured

ROUND_TRIPS_MS = (10, 50, 100, 200)


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of the command."""
    parser.add_argument("--draft", required=True, help="the draft model: a folder, a hub name or demo")
    parser.add_argument("--target", required=True, help="the target model: a folder, a hub name or demo")
    parser.add_argument("--name", help="of the pair, for its section (default: from the target's)")
    parser.add_argument("--dtype", default="bfloat16", choices=tuple(DTYPES), help="the target's precision")
    parser.add_argument("--num-threads", type=int, default=2, help="CPU threads of the target")
    parser.add_argument("--prompts", type=int, default=2, help="prompts of each kind of text, 1 to 3")
    parser.add_argument("--max-tokens", type=int, default=48, help="tokens of an answer")
    parser.add_argument("--threshold", type=float, help="of opportunistic (default: the scheme's)")
    parser.add_argument("--rate-mbps", type=float, default=20.0, help="rate of the link, each way")
    parser.add_argument(
        "--draft-ms", type=float, help="a draft token on the device (default: on this machine)"
    )
    parser.add_argument("--pass-ms", type=float, help="a pass of the target (default: on this machine)")
    parser.add_argument(
        "--board", default="Raspberry Pi 5", choices=[one.name for one in PROFILES], help="for its watts"
    )
    parser.add_argument("--p99-ms", type=float, default=250.0, help="for devices per worker")
    parser.add_argument(
        "--prompts-per-hour", type=float, default=12.0, help="of a device, in the busiest hour"
    )
    parser.add_argument(
        "--cache", type=path_flag, help="folder for logits, some GB (default: in memory only)"
    )
    parser.add_argument("--work", type=path_flag, help="folder for finished parts (default: user's cache)")
    parser.add_argument(
        "--out", type=path_flag, default=RESULTS, help=f"folder for the page ({RESULTS_HELP})"
    )


def run(flags: argparse.Namespace) -> int:
    """Measure and write the page; return 0."""
    _check(flags)
    target = str(DEMO_FOLDER) if flags.target == DEMO else str(Path(flags.target).expanduser())
    asked = Asked(
        flags.draft, target, flags.dtype, flags.num_threads,
        {kind: some[: flags.prompts] for kind, some in PROMPTS.items()}, flags.max_tokens,
        flags.threshold, flags.rate_mbps, flags.draft_ms, flags.pass_ms,
    )  # fmt: skip
    asking = Asking(
        tuple(ROUND_TRIPS_MS), flags.p99_ms / 1000, flags.prompts_per_hour / 3600, load_inputs(INPUTS)
    )
    finished = Finished(
        flags.work or default_cache().parent / "value", f"{flags.draft} {target} {flags.dtype}"
    )
    board = next(one for one in PROFILES if one.name == flags.board)
    found = measured(asked, asking, finished, flags.cache)
    name = flags.name or Path(target).name
    command = header(shlex.join(["python", "-m", "evaluation", *sys.argv[1:]]))
    print(f"wrote {page.write(flags.out, name, command, asked, asking, board, found)}")
    return 0


def _check(flags: argparse.Namespace) -> None:
    """Raise SettingsError for flags out of range."""
    if not 1 <= flags.prompts <= 3:
        raise SettingsError(f"--prompts must be between 1 and 3, got {flags.prompts}")
    for name in (
        "max_tokens",
        "rate_mbps",
        "draft_ms",
        "pass_ms",
        "p99_ms",
        "prompts_per_hour",
        "num_threads",
    ):
        value = getattr(flags, name)
        if value is not None and value <= 0:
            raise SettingsError(f"--{name.replace('_', '-')} must be above 0, got {value:g}")
