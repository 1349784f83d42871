"""`--risk` on real agents and workers, and the command that measures it."""

import asyncio
import csv
from dataclasses import replace
from pathlib import Path

import pytest

from edge_agent.agent import EdgeAgent
from edge_agent.config import AgentConfig
from edge_agent.report import Report
from evaluation.__main__ import main
from evaluation.local.broker import LocalBroker
from evaluation.local.worker import LocalWorker
from evaluation.risk.domains import DOMAINS
from evaluation.risk.measuring import Answered, Run
from evaluation.smart_home.held_out import held_out
from tests.support.narrowing import present


async def measured(config: AgentConfig, prompts: list[str]) -> list[Report]:
    reports: list[Report] = []
    async with EdgeAgent.open(config) as agent:
        for seed, prompt in enumerate(prompts):
            generation = agent.generate(prompt, seed=seed)
            async for _ in generation:
                pass
            await agent.audited()
            reports.append(Report.of(generation, agent.risk))
    return reports


def test_on_shifted_prompts_a_steered_threshold_risks_less_than_a_fixed_one(broker: LocalBroker) -> None:
    prompts = [DOMAINS["shifted"](each.command) for each in held_out(25)]
    common = AgentConfig(broker=broker.url, scheme="opportunistic", temperature=1.0)
    with LocalWorker(broker.url):
        fixed = asyncio.run(measured(replace(common, threshold=0.6, audit=1.0), prompts))
        steered = asyncio.run(measured(replace(common, risk=0.05), prompts))
        again = asyncio.run(measured(replace(common, threshold=steered[3].threshold), prompts[:4]))
    for reports in (fixed, steered):
        assert all(report.num_measured == report.num_skipped for report in reports)
    of_fixed, of_steered = (present(each[-1].measured_risk_of_agent) for each in (fixed, steered))
    assert of_fixed > 2 * 0.05
    assert of_steered < 0.6 * of_fixed
    assert steered[-1].threshold < steered[0].threshold
    # law 3: the threshold that the report names makes the text again
    assert again[3].text == steered[3].text


@pytest.mark.slow
def test_on_shifted_prompts_the_steered_risk_is_epsilon_and_the_fixed_one_a_multiple(tmp_path: Path) -> None:
    command = ["risk", "--num", "120", "--epsilon", "0.05", "--out", str(tmp_path)]
    assert main(command) == 0  # every steered run within a fifth, or all skipped
    with (tmp_path / "risk.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["domain"] == "shifted" and row["mode"] == "fixed"]
    assert sum(float(row["lost"]) for row in rows) > 2 * 0.05 * sum(int(row["tokens"]) for row in rows)


def a_run(risk: float, skip_rate: float, epsilon: float = 0.05) -> Run:
    lost = Answered(0.1, 1000, round(1000 * skip_rate), 1, 1, round(1000 * skip_rate), 1000 * risk)
    return Run("shifted", "steered", epsilon, (lost,))


@pytest.mark.parametrize(
    ("risk", "skip_rate", "is_kept"),
    [
        (0.05, 0.8, True),
        (0.0599, 0.8, True),
        (0.061, 0.8, False),
        (0.061, 1.0, False),
        (0.039, 0.8, False),
        (0.039, 1.0, True),
    ],
)
def test_a_risk_is_kept_within_a_fifth_or_below_it_when_all_is_skipped(
    risk: float, skip_rate: float, is_kept: bool
) -> None:
    assert a_run(risk, skip_rate).is_kept is is_kept


def test_the_command_writes_its_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["risk", "--num", "2", "--epsilon", "0.05", "--out", str(tmp_path)]) == 0
    page = (tmp_path / "risk.md").read_text()
    assert page.count("| 0.05 | shifted |") == 2
    assert len((tmp_path / "risk.csv").read_text().splitlines()) == 1 + 2 * 2 * len(DOMAINS)
    assert (tmp_path / "risk.svg").exists()
    assert "epsilon 0.05, shifted, steered: risk" in capsys.readouterr().out


@pytest.mark.parametrize("flags", [("--num", "0"), ("--epsilon", "0"), ("--epsilon", "2")])
def test_the_command_refuses_numbers_without_sense(
    flags: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["risk", *flags]) == 2
    assert "evaluation risk: --" in capsys.readouterr().err
