"""`power` eco changes when the draft model works, never what it writes; a report has the processor time."""

import asyncio
import time

import pytest

from edge_agent.agent import EdgeAgent
from edge_agent.config import AgentConfig
from edge_agent.device.power import MAX_REST, Pace
from edge_agent.report import Report


def answer(power: str) -> Report:
    """One answer of the demo model alone."""

    async def generate() -> Report:
        config = AgentConfig(scheme="slm", power=power, seed=3, temperature=1.0, max_tokens=8)
        async with EdgeAgent.open(config) as agent:
            generation = agent.generate("turn on the kitchen light")
            async for _ in generation:
                pass
        return Report.of(generation)

    return asyncio.run(generate())


def a_quarter(_pace: Pace, _now: float) -> float:
    """A rest that does not depend on how long the machine took."""
    return 0.25


def test_eco_rests_between_tokens_and_writes_the_same_text(monkeypatch: pytest.MonkeyPatch) -> None:
    rests: list[float] = []
    monkeypatch.setattr(time, "sleep", rests.append)
    full = answer("full")
    assert rests == []
    monkeypatch.setattr(Pace, "rest", a_quarter)
    eco = answer("eco")
    assert eco.text == full.text
    assert rests == [0.25] * eco.num_tokens


def test_the_rest_after_a_prompt_is_for_all_its_runs_and_those_of_others_but_bounded() -> None:
    pace = Pace(share=0.5)
    pace.worked(0.0, 0.25)  # two runs of a prompt, in one go
    pace.worked(0.25, 0.5)
    assert pace.rest(0.5) == pytest.approx(0.5)
    pace.worked(1.0, 1.125)  # a token, after the rest
    assert pace.rest(1.125) == pytest.approx(0.125)
    pace.worked(1.25, 9.0)
    assert pace.rest(9.0) == MAX_REST


def test_a_report_has_the_processor_time_per_token() -> None:
    report = answer("full")
    assert report.num_tokens == 8
    assert report.seconds_cpu > 0
    assert report.seconds_cpu_per_token == pytest.approx(report.seconds_cpu / 8)
    assert "ms of CPU per token" in " ".join(report.lines())
