"""Measures one agent over many prompts: the risk of each answer, and its threshold.

Law: agent, broker and worker are real. Risk is what the agent itself measures, audits included, and the
number of skipped tokens that it could not measure is reported too.
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from edge_agent.agent import EdgeAgent
from edge_agent.config import AgentConfig

TOLERANCE = 0.2  # as a share of epsilon
NEARLY_ALL = 0.99  # a skip rate at which the draft model's risk cannot grow much further


@dataclass(frozen=True, slots=True)
class Answered:
    """One answer: its threshold, its counts, and `lost`, the sum of the rejection mass that was skipped."""

    threshold: float
    num_tokens: int
    num_skipped: int
    num_uplinks: int
    num_audits: int
    num_measured: int
    lost: float


@dataclass(frozen=True, slots=True)
class Run:
    """All answers in one mode and one domain; `epsilon` is the risk to keep."""

    domain: str
    mode: str  # fixed or steered
    epsilon: float
    answers: tuple[Answered, ...]

    @property
    def num_tokens(self) -> int:
        """The tokens of all answers."""
        return sum(each.num_tokens for each in self.answers)

    @property
    def risk(self) -> float:
        """Drift per token over all answers."""
        return sum(each.lost for each in self.answers) / max(1, self.num_tokens)

    @property
    def is_kept(self) -> bool:
        """Whether the risk is within TOLERANCE of epsilon, or below it with nearly all tokens skipped."""
        if self.risk < (1 - TOLERANCE) * self.epsilon:
            return self.skip_rate >= NEARLY_ALL
        return self.risk <= (1 + TOLERANCE) * self.epsilon

    @property
    def num_unmeasured(self) -> int:
        """Skipped tokens whose audit was lost; they are assumed to be like the others of their answer."""
        return sum(each.num_skipped - each.num_measured for each in self.answers)

    @property
    def skip_rate(self) -> float:
        """Skipped tokens over all tokens."""
        return sum(each.num_skipped for each in self.answers) / max(1, self.num_tokens)


class MeasuringError(RuntimeError):
    """A run that cannot be judged; the message is one line."""


async def answers(config: AgentConfig, prompts: Sequence[str], seed: int) -> AsyncIterator[Answered]:
    """Answer one prompt after another, each with its own seed; MeasuringError if one fails."""
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
