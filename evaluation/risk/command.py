"""Check that a steered threshold keeps the measured risk, on prompts that it was and was not calibrated for.

    python -m evaluation risk
    python -m evaluation risk --num 60 --epsilon 0.05 --out /tmp/risk     # a quick look

The demo pair answers held-out commands unchanged, capitalised and misspelt, through a broker and a worker of
its own: once at the threshold that the calibration gives for each epsilon, and once with the agent's --risk.
The agent measures its risk. The command writes docs/results/risk.md, risk.svg and risk.csv.
"""

import argparse
import asyncio
import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace

from tqdm import tqdm

from common.process.paths import path_flag
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
MIN_ALLOWANCE = 100  # rejected tokens that a run may skip; with fewer, chance alone could exceed TOLERANCE


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of the command."""
    parser.add_argument(
        "--epsilon",
        type=float,
        action="append",
        help=f"risk to keep; repeatable (default: {', '.join(map(str, EPSILONS))})",
    )
    parser.add_argument("--num", type=int, default=NUM_ANSWERS, help="answers per run")
    parser.add_argument(
        "--seed", type=int, default=SEED, help="seed of the first answer; the others count up"
    )
    parser.add_argument(
        "--out", type=path_flag, default=RESULTS, help=f"folder for the page ({RESULTS_HELP})"
    )


def run(flags: argparse.Namespace) -> int:
    """Measure and write the page; return 1 if a steered run missed its risk or a run failed."""
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
                    for mode in ("fixed", "steered"):
                        runs.append(_measure(broker.url, domain, mode, epsilon, flags.num, flags.seed))
    except (BrokerError, WorkerError, MeasuringError) as error:
        print(f"evaluation risk: {error}", file=sys.stderr)
        return 1
    page = write_page(flags.out, runs, shlex.join(["python", "-m", "evaluation", *sys.argv[1:]]))
    print(f"wrote {page}")
    return _verdict([each for each in runs if each.mode == "steered"])


def _verdict(steered: Sequence[Run]) -> int:
    """Print whether every steered run kept its epsilon; return 1 if not. Short runs are not judged."""
    judged = [each for each in steered if each.num_tokens * each.epsilon >= MIN_ALLOWANCE]
    broken = [each for each in judged if not each.is_kept]
    for each in broken:
        print(f"epsilon {each.epsilon:g}, {each.domain}: the steered risk was {each.risk:.4f}")
    print(
        f"{len(judged) - len(broken)} of {len(judged)} steered runs kept their risk within {TOLERANCE:.0%} "
        f"or skipped nearly everything; {len(steered) - len(judged)} were too short to judge"
    )
    return 1 if broken else 0


def _measure(broker_url: str, domain: str, mode: str, epsilon: float, num: int, seed: int) -> Run:
    commands = [each.command for each in held_out()]
    prompts = [DOMAINS[domain](commands[number % len(commands)]) for number in range(num)]
    config = _config(broker_url, mode, epsilon)
    measured = asyncio.run(_all(config, prompts, seed, f"{epsilon:g} {domain} {mode}"))
    found = Run(domain, mode, epsilon, measured)
    print(f"epsilon {epsilon:g}, {domain}, {mode}: risk {found.risk:.4f} over {found.num_tokens} tokens")
    return found


async def _all(config: AgentConfig, prompts: Sequence[str], seed: int, what: str) -> tuple[Answered, ...]:
    measured: list[Answered] = []
    with tqdm(total=len(prompts), desc=what, unit="answer", file=sys.stderr) as bar:
        async for each in answers(config, prompts, seed):
            measured.append(each)
            bar.update()
    return tuple(measured)


def _config(broker_url: str, mode: str, epsilon: float) -> AgentConfig:
    """Return the agent's config, at temperature 1 as in the demo's calibration."""
    plain = AgentConfig(broker=broker_url, scheme="opportunistic", temperature=1.0)
    if mode == "steered":
        return replace(plain, risk=epsilon)
    calibration = Calibration.from_json((DEMO_FOLDER / FILE_NAME).read_text(encoding="utf-8"))
    curve = RiskCurve.measured(calibration.operating_points)
    threshold = 1.0 if curve is None else curve.threshold(epsilon)
    return replace(plain, threshold=threshold, audit=1.0)
