"""Whether a risk that is steered stays where it is wanted, also on prompts that nothing was calibrated for.

The demo pair answers held-out commands as they are, capitalised and misspelt, through a broker and a worker
of its own: once at the threshold that the calibration gives for each epsilon, once with --risk. The agent
measures what it risked. Writes docs/results/risk.md, risk.svg and risk.csv.

    python -m evaluation risk
    python -m evaluation risk --num 60 --epsilon 0.05 --out /tmp/risk     # a quick look
"""

import argparse
import asyncio
import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tqdm import tqdm

from common.process.settings import SettingsError
from edge_agent.config import AgentConfig
from edge_agent.draft_model.files import DEMO_FOLDER
from edge_agent.tuning.calibration import FILE_NAME, Calibration
from edge_agent.tuning.risk_control import RiskCurve
from evaluation.local.broker import BrokerError, LocalBroker
from evaluation.local.worker import LocalWorker, WorkerError
from evaluation.reporting.results import RESULTS, RESULTS_HELP
from evaluation.risk.domains import DOMAINS
from evaluation.risk.measuring import TOLERANCE, Answered, MeasuringError, Run, answers
from evaluation.risk.page import write_page
from evaluation.smart_home.held_out import held_out

EPSILONS = (0.01, 0.02, 0.05)
NUM_ANSWERS = 300
SEED = 1
MIN_ALLOWANCE = 100  # tokens that may be lost in a run, so that a few more or less are not a fifth of it


def add_flags(parser: argparse.ArgumentParser) -> None:
    """The flags of the command."""
    parser.add_argument(
        "--epsilon", type=float, action="append", help=f"a risk to keep to; repeatable (default: {EPSILONS})"
    )
    parser.add_argument(
        "--num", type=int, default=NUM_ANSWERS, help=f"answers of each run (default: {NUM_ANSWERS})"
    )
    parser.add_argument("--seed", type=int, default=SEED, help=f"of the first answer (default: {SEED})")
    parser.add_argument("--out", type=Path, default=RESULTS, help=f"folder to write ({RESULTS_HELP})")


def run(flags: argparse.Namespace) -> int:
    """Measure all, write, say; 1 when a steered risk was not kept, or something could not be measured."""
    if flags.num < 1:
        raise SettingsError(f"--num must be at least 1, got {flags.num}")
    epsilons: Sequence[float] = flags.epsilon or EPSILONS
    if not all(0 < epsilon <= 1 for epsilon in epsilons):
        raise SettingsError(f"--epsilon must be above 0 and at most 1, got {epsilons}")
    runs: list[Run] = []
    try:
        with LocalBroker() as broker, LocalWorker(broker.url, "--model", "demo"):
            for epsilon in epsilons:
                for domain in DOMAINS:
                    for way in ("fixed", "steered"):
                        runs.append(_measure(broker.url, domain, way, epsilon, flags.num, flags.seed))
    except (BrokerError, WorkerError, MeasuringError) as error:
        print(f"evaluation risk: {error}", file=sys.stderr)
        return 1
    page = write_page(flags.out, runs, shlex.join(["python", "-m", "evaluation", *sys.argv[1:]]))
    print(f"wrote {page}")
    return _verdict([each for each in runs if each.way == "steered"])


def _verdict(steered: Sequence[Run]) -> int:
    """Whether every steered run kept its epsilon; one that is too short for it is not judged."""
    judged = [each for each in steered if each.num_tokens * each.epsilon >= MIN_ALLOWANCE]
    broken = [each for each in judged if not each.is_kept]
    for each in broken:
        print(f"epsilon {each.epsilon:g}, {each.domain}: the steered risk was {each.risk:.4f}")
    print(
        f"{len(judged) - len(broken)} of {len(judged)} steered runs kept their risk within {TOLERANCE:.0%}, "
        f"or skipped nearly everything; {len(steered) - len(judged)} were too short to be judged"
    )
    return 1 if broken else 0


def _measure(broker_url: str, domain: str, way: str, epsilon: float, num: int, seed: int) -> Run:
    commands = [each.command for each in held_out()]
    prompts = [DOMAINS[domain](commands[number % len(commands)]) for number in range(num)]
    config = _config(broker_url, way, epsilon)
    measured = asyncio.run(_all(config, prompts, seed, f"{epsilon:g} {domain} {way}"))
    found = Run(domain, way, epsilon, measured)
    print(f"epsilon {epsilon:g}, {domain}, {way}: risk {found.risk:.4f} over {found.num_tokens} tokens")
    return found


async def _all(config: AgentConfig, prompts: Sequence[str], seed: int, what: str) -> tuple[Answered, ...]:
    measured: list[Answered] = []
    with tqdm(total=len(prompts), desc=what, unit="answer", file=sys.stderr) as bar:
        async for each in answers(config, prompts, seed):
            measured.append(each)
            bar.update()
    return tuple(measured)


def _config(broker_url: str, way: str, epsilon: float) -> AgentConfig:
    """At temperature 1, as the demo's calibration."""
    plain = AgentConfig(broker=broker_url, scheme="opportunistic", temperature=1.0)
    if way == "steered":
        return replace(plain, risk=epsilon)
    calibration = Calibration.from_json((DEMO_FOLDER / FILE_NAME).read_text(encoding="utf-8"))
    curve = RiskCurve.measured(calibration.operating_points)
    threshold = 1.0 if curve is None else curve.threshold(epsilon)
    return replace(plain, threshold=threshold, audit=1.0)
