"""One agent over many prompts: what it risked after each answer, and at which threshold.

Law: agent, broker and worker are the real ones; risk is what the agent itself measures, audits included, and
how many skipped tokens it could not measure is told beside it.
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from edge_agent.agent import EdgeAgent
from edge_agent.config import AgentConfig

TOLERANCE = 0.2  # of epsilon
NEARLY_ALL = 0.99  # skipped: there is no more risk to be had from this draft model


@dataclass(frozen=True, slots=True)
class Answered:
    """One answer: its threshold, its counts, and the risk lost in it, in tokens lost in full."""

    threshold: float
    num_tokens: int
    num_skipped: int
    num_uplinks: int
    num_audits: int
    num_measured: int
    lost: float


@dataclass(frozen=True, slots=True)
class Run:
    """One setting over one domain; `epsilon` is what it should keep to."""

    domain: str
    way: str  # fixed or steered
    epsilon: float
    answers: tuple[Answered, ...]

    @property
    def num_tokens(self) -> int:
        """Of all answers."""
        return sum(each.num_tokens for each in self.answers)

    @property
    def risk(self) -> float:
        """Drift a token, over all of them."""
        return sum(each.lost for each in self.answers) / max(1, self.num_tokens)

    @property
    def is_kept(self) -> bool:
        """Whether the risk is epsilon within TOLERANCE, or less where nearly all is skipped anyway."""
        if self.risk < (1 - TOLERANCE) * self.epsilon:
            return self.skip_rate >= NEARLY_ALL
        return self.risk <= (1 + TOLERANCE) * self.epsilon

    @property
    def num_unmeasured(self) -> int:
        """Skipped tokens whose audit was lost; they are taken to be like the others of their answer."""
        return sum(each.num_skipped - each.num_measured for each in self.answers)

    @property
    def skip_rate(self) -> float:
        """Skipped over all tokens."""
        return sum(each.num_skipped for each in self.answers) / max(1, self.num_tokens)


class MeasuringError(RuntimeError):
    """A run that cannot be judged: one sentence."""


async def answers(config: AgentConfig, prompts: Sequence[str], seed: int) -> AsyncIterator[Answered]:
    """Answer one prompt after the other, each with a seed of its own; MeasuringError when one fails."""
    async with EdgeAgent.open(config) as agent:
        for number, prompt in enumerate(prompts):
            generation = agent.generate(prompt, seed=seed + number)
            async for _ in generation:
                pass
            await agent.audited()
            tally = generation.session.tally
            if generation.session.failure is not None:
                raise MeasuringError(agent.explain(generation.session.failure))
            yield Answered(
                generation.policy.threshold,
                tally.num_tokens,
                tally.num_skipped,
                tally.num_uplinks,
                tally.num_audits,
                tally.num_measured,
                (tally.measured_risk or 0.0) * tally.num_tokens,
            )
