"""Plant faults in a copy of the pure packages, and count those that the tests notice (`make mutation`).

    python -m benchmarks.mutation --mutants 300 --only edge_agent/policy

The sample is the same for the same code and seed. The report has the score of each package, and every mutant
that no test noticed, as a line of code: either a test is missing, or the mutant behaves like the original.
The working tree is only read.
"""

import argparse
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path

from tqdm import tqdm

from benchmarks.mutation.mutants import find_mutants, sample
from benchmarks.mutation.suites import SUITES, Suite
from benchmarks.mutation.trial import Outcome, Trials, preload
from evaluation.help_format import command_parser

ROOT = Path(__file__).parents[2]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns 1 when the tests fail without any mutation."""
    options = _parser().parse_args(arguments)
    suites = [suite for suite in SUITES if suite.package.startswith(options.only)]
    mutants = [(suite, each) for suite in suites for each in find_mutants(ROOT, suite.modules(ROOT))]
    sampled = sample(mutants, options.mutants, options.seed)
    chosen = [(suite, mutant) for suite, mutant in sampled if mutant.is_python(ROOT)]
    print(f"{len(chosen)} of {len(mutants)} mutants, seed {options.seed}, {options.jobs} at once", flush=True)
    preload()
    with tempfile.TemporaryDirectory(prefix="mutation-") as folder:
        trials = Trials(ROOT, Path(folder))
        with ProcessPoolExecutor(options.jobs, get_context("fork")) as pool:
            limits = dict(zip(suites, pool.map(trials.time_limit, suites), strict=True))
            for suite, limit in limits.items():
                if limit is None:
                    print(f"{suite.package}: the tests fail without any mutation:\n{trials.log_of(suite)}")
                    return 1
            runs = {
                pool.submit(trials.run, suite, mutant, limits[suite] or 0.0): (suite, mutant)
                for suite, mutant in chosen
            }
            outcomes: Counter[tuple[str, Outcome]] = Counter()
            for run in tqdm(as_completed(runs), total=len(runs)):
                suite, mutant = runs[run]
                outcomes[suite.package, run.result()] += 1
                if run.result() is Outcome.SURVIVED:
                    tqdm.write(mutant.shown(ROOT))
    print(_table(suites, outcomes))
    return 0


def _table(suites: Sequence[Suite], outcomes: Counter[tuple[str, Outcome]]) -> str:
    """Killed over total, per package; a mutant that never ends is killed by the time limit."""
    lines = ["", "| Package | Killed | Of | Share |", "|---|---|---|---|"]
    totals = [0, 0]
    for suite in suites:
        total = sum(outcomes[suite.package, each] for each in Outcome)
        killed = total - outcomes[suite.package, Outcome.SURVIVED]
        totals = [totals[0] + killed, totals[1] + total]
        lines.append(_row(f"`{suite.package}`", killed, total))
    return "\n".join([*lines, _row("all", *totals)])


def _row(name: str, killed: int, total: int) -> str:
    return f"| {name} | {killed} | {total} | {killed / total if total else 1.0:.0%} |"


def _parser() -> argparse.ArgumentParser:
    parser = command_parser("python -m benchmarks.mutation", "plant faults and count those that tests catch")
    parser.add_argument(
        "--mutants",
        type=lambda text: None if text == "all" else int(text),
        default=300,
        help="how many places to change, once each; `all`: every change of every place",
    )
    parser.add_argument("--only", default="", metavar="PATH", help="the packages whose path begins with this")
    parser.add_argument("--seed", type=int, default=1, help="of the sample")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="mutants at once")
    return parser


if __name__ == "__main__":
    sys.exit(main())
