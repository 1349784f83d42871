"""Real agents answer the problems: one per scheme, all at once, beside one worker.

Law: agent, broker and worker are real. Decoding is greedy without penalties, so a text is a function of its
prompt, the models and, where a risk is kept, of what the agent learned from the answers before.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

from edge_agent.agent import EdgeAgent
from edge_agent.config import AgentConfig
from evaluation.real_models.problems import CODE, STOPS, Problem
from evaluation.real_models.scoring import is_right

RISKS = (0.01, 0.02, 0.05)
MAX_TOKENS = {CODE: 160}  # the others: MOST_TOKENS
MOST_TOKENS = 256
CLOUD_TIMEOUT = 600.0  # seconds: a loaded machine is no lost cloud
GREEDY: dict[str, Any] = {"temperature": 0.0, "repetition_penalty": 1.0}


@dataclass(frozen=True, slots=True)
class Variant:
    """A scheme as it is compared; `risk` is the drift per token that an agent keeps, audits included."""

    name: str
    scheme: str
    risk: float | None = None

    def config(self, kind: str, draft: str, broker_url: str) -> AgentConfig:
        """Return the agent's config for one kind of problem."""
        return AgentConfig(
            model=draft,
            broker=broker_url,
            scheme=self.scheme,
            risk=self.risk,
            audit=None if self.risk is None else 1.0,
            raw=kind == CODE,
            stop=STOPS if kind == CODE else (),
            max_tokens=MAX_TOKENS.get(kind, MOST_TOKENS),
            num_threads=1,
            cloud_timeout=CLOUD_TIMEOUT,
            **GREEDY,
        )


VARIANTS = (
    Variant("slm", "slm"),
    *(Variant(f"opportunistic, risk {risk:g}", "opportunistic", risk) for risk in reversed(RISKS)),
    Variant("lossless", "lossless"),
)


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer and its counts; `drift` is the rejection mass that was skipped, in tokens."""

    name: str
    is_right: bool
    num_tokens: int
    num_uplinks: int = 0
    num_tested: int = 0
    num_accepted: int = 0
    num_skipped: int = 0
    num_audits: int = 0
    drift: float = 0.0
    num_bytes_up: int = 0
    num_bytes_down: int = 0
    text: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """Return what `to_json` wrote."""
        return cls(**values)


class AnsweringError(RuntimeError):
    """A generation that failed; the message is one line."""


async def answers(
    config: AgentConfig, problems: Sequence[Problem], progress: Callable[[], object]
) -> list[Answer]:
    """Answer one problem after the other with one agent; AnsweringError if one fails."""
    found: list[Answer] = []
    async with EdgeAgent.open(config) as agent:
        for number, problem in enumerate(problems):
            before = agent.link_statistics
            generation = agent.generate(problem.prompt, seed=number)
            async for _ in generation:
                pass
            await agent.audited()
            session, tally, after = generation.session, generation.session.tally, agent.link_statistics
            if session.failure is not None:
                raise AnsweringError(agent.explain(session.failure))
            right = await asyncio.to_thread(is_right, problem, generation.text)
            found.append(
                Answer(
                    problem.name,
                    right,
                    tally.num_tokens,
                    tally.num_uplinks,
                    tally.num_tested,
                    tally.num_accepted,
                    tally.num_skipped,
                    tally.num_audits,
                    (tally.measured_risk or 0.0) * tally.num_tokens,
                    after.num_bytes_up - before.num_bytes_up,
                    after.num_bytes_down - before.num_bytes_down,
                    generation.text,
                )
            )
            progress()
    return found
