"""When the held tokens go up, and when to draft ahead: by what this text and its answers have shown. Pure.

Law: it only decides when drafts go up. Tokens are accepted one by one, so the text is the same at any pace
(docs/method.md), and the estimates may be as rough as the measurements that they come from.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from edge_agent.policy.policy import ForcedRun, Proposal
from edge_agent.policy.rejection_fit import PUBLISHED_FIT, Fit
from edge_agent.session.held import Held
from edge_agent.session.pass_time import PassTime
from edge_agent.session.plan import LONGEST, Plan, Times, best_plan
from edge_agent.session.rejection_rate import DEFAULT_RATE, RejectionRate
from edge_agent.session.sending import is_enough_ahead, is_enough_alone, is_enough_for_later
from edge_agent.session.streaming import Guess, Outlook, Streamed, Streaming

SMOOTHING = 1 / 8
MAX_IN_FLIGHT = 16  # drafts, where the window is not given
LEAST_HOPE = 0.03  # a token that stands with a smaller probability is not drafted ahead
LIKELY = 0.5  # the end of a text goes up ahead if what is in flight stands at least as likely
FIRST = 4  # tokens in the first draft, while nothing is known: it finds a worker, which reads the prompt
FALLBACK = 8  # tokens in a later one, while nothing is known
ENOUGH = 0.7  # while nothing is known: the hazard at which a block goes up; it stands with probability 1/2
MOSTLY_SKIPPED = 0.5  # a share of held tokens below this: most are skipped, and wait behind a held one
NEWS = 0.05  # an estimate that changes by less does not change the plan


@dataclass(frozen=True, slots=True)
class Experience:
    """What an agent knows before a text: seconds of a draft token and of the link, passes, rejections.

    `share_held` is the share of drafted tokens that are to be verified; the others are skipped.
    """

    draft: float | None = None
    network: float | None = None
    passes: PassTime = field(default_factory=PassTime)
    rejection: float = DEFAULT_RATE
    fit: Fit = PUBLISHED_FIT
    share_held: float = 1.0
    streamed: Streamed = field(default_factory=Streamed)


@dataclass(frozen=True, slots=True)
class InTheAir:
    """The drafts in flight: how many; none of their tokens is rejected with probability exp(-`hazard`)."""

    count: int
    hazard: float


class Pacing:
    """`window` None: as many drafts in flight as pay; `fixed` is a given block length.

    `may_stream`: the target may write the rest of the text alone where that is faster.
    """

    def __init__(
        self,
        window: int | None,
        fixed: int | None = None,
        experience: Experience | None = None,
        *,
        may_stream: bool = False,
    ) -> None:
        known = experience or Experience()
        self.streaming = Streaming(known.streamed, is_allowed=may_stream)
        self.window, self.fixed = window, fixed
        self.draft_time = known.draft
        self.network = known.network
        self.passes = known.passes.remembered()
        self.rejections = RejectionRate(known.fit, known.rejection)
        self._share_held = known.share_held
        self._has_drafted = False  # in this text
        self._is_rough = False  # `draft_time` is from runs of several tokens
        self._plan: Plan | None = None
        self._times: Times | None = None
        self._planned_for: tuple[float, ...] = ()
        self._outlook: Outlook | None = None
        self._looked_for: tuple[float, ...] = ()

    # -- what is measured -------------------------------------------------------------------------------

    def drafted(self, seconds: float, *, is_held: bool, num_unread: int = 0) -> None:
        """Take in how long a draft token took, and whether it is to be verified.

        Before the first one of a text the prompt is read, `num_unread` tokens, so it says nothing of others.
        """
        if self._has_drafted:
            is_rough, self._is_rough = self._is_rough and num_unread <= 1, False
            self.draft_time = seconds if is_rough else _smooth(self.draft_time, seconds)
        else:
            self.streaming.prompt_read(seconds, num_unread)
        self._has_drafted = True
        self._share_held = _smooth(self._share_held, float(is_held))

    def answered(self, round_trip: float, compute: float, num_positions: int, *, waited: bool) -> None:
        """Take in an answer's times; `waited` means that its draft was behind another one."""
        if num_positions:
            self.passes.observe(compute, num_positions)
        if not waited:
            self.network = _smooth(self.network, max(0.0, round_trip - compute))

    def shadowed(self, position: int, proposal: Proposal | ForcedRun, seconds: float, num_new: int) -> None:
        """Take in what was drafted for `position` beside a stream, after reading `num_new` tokens."""
        self.streaming.shadowed(num_new)
        if isinstance(proposal, ForcedRun):  # it took no run of the model, and shows nothing
            self.streaming.guess = Guess(position + len(proposal.tokens) - 1, None)
            return
        risk = self.rejections.line_risk(proposal.uncertainty)
        self.streaming.guess = Guess(position, proposal.draft.token, risk)
        if self._has_drafted:
            is_rough, self._is_rough = self._is_rough, num_new > 1
            per_token = seconds / max(1, num_new)
            self.draft_time = per_token if is_rough else _smooth(self.draft_time, per_token)
        else:
            self.streaming.prompt_read(seconds, num_new)
        self._has_drafted = True

    def judge(self, tokens: Sequence[int]) -> None:
        """Compare it with the target's token, once that is among `tokens`."""
        guess = self.streaming.guess
        if guess is not None and len(tokens) > guess.position:
            self.streaming.guess = None
            is_rejected = tokens[guess.position] != guess.token
            if guess.token is not None:
                self.rejections.tested(guess.risk, 1, is_rejected=is_rejected)

    def token_came(self, now: float, compute: float) -> None:
        """Take in a further token of a stream, whose pass took `compute` seconds."""
        self.streaming.token_came(now, compute)
        self.passes.observe(compute, 1)

    @property
    def experience(self) -> Experience:
        """What the next text begins with."""
        rejections = self.rejections
        return Experience(
            self.draft_time,
            self.network,
            self.passes,
            rejections.rate,
            rejections.fit,
            self._share_held,
            self.streaming.learned(rejections),
        )

    # -- what follows ----------------------------------------------------------------------------------

    def is_due(self, held: Held, air: InTheAir, *, ends: bool = False) -> bool:
        """Whether the held tokens should go up now; `ends` means that no token follows them."""
        num_held = len(held)
        if num_held == 0:
            return False
        if ends and (air.count == 0 or self.window is not None or self._hope(air.hazard) >= LIKELY):
            return True
        if self.fixed is not None:
            return num_held >= self.fixed
        plan, times = self.plan, self._times
        if plan is None or times is None:
            return self._is_due_blindly(held, air)
        if self._share_held < MOSTLY_SKIPPED and times.draft >= times.network + times.forward(num_held):
            return True  # its answer is here before the next one, and what was skipped behind it waits
        if num_held >= (LONGEST if plan.is_pipeline else plan.most):
            return plan.is_pipeline or air.count == 0
        stands, rejection = self._hope(held.hazard), self.rejections.rate
        if plan.is_pipeline:
            ahead = self._hope(air.hazard)
            return is_enough_ahead(times, rejection, num_held, stands, ahead, behind=air.count > 0)
        return air.count == 0 and is_enough_alone(times, plan, rejection, stands)

    def _is_due_blindly(self, held: Held, air: InTheAir) -> bool:
        """The same while nothing is known: the first answer, which teaches it, is waited for.

        Where most tokens are skipped, the next one to be held is far, and those behind this one wait for it.
        """
        if self._share_held < MOSTLY_SKIPPED:
            return True
        if air.count:
            return self.window is not None and len(held) >= FALLBACK
        is_first = self.network is None and self.window != 1
        num_first = FIRST if is_first else FALLBACK
        return len(held) >= num_first or held.hazard >= ENOUGH

    def drafts_ahead(self, held: Held, air: InTheAir) -> bool:
        """Whether a further token is worth drafting now."""
        if self.window is not None:
            return air.count < self.window
        if air.count == 0:
            return True
        if air.count >= MAX_IN_FLIGHT or len(held) >= LONGEST:
            return False
        plan, times = self.plan, self._times
        if plan is not None and times is not None and not plan.is_pipeline:
            stands = self._hope(held.hazard)
            if len(held) >= plan.most or (len(held) and is_enough_for_later(times, plan, stands)):
                return False
        return self._hope(air.hazard + held.hazard) >= LEAST_HOPE

    def _hope(self, hazard: float) -> float:
        """The probability that no token is rejected where the line predicts `hazard`."""
        return math.exp(-hazard * self.rejections.hardness)

    @property
    def outlook(self) -> Outlook | None:
        """The present estimates together; None while one is missing."""
        if self.plan is None or (times := self._times) is None:
            return None
        rejection = self.streaming.rejection(self.rejections)
        estimates = times.draft, times.network, times.base, times.slope, rejection
        if self._outlook is None or _is_news(self._looked_for, estimates):
            self._looked_for = estimates
            self._outlook = Outlook(times, best_plan(times, rejection, drafts_ahead=self.window != 1))
        return self._outlook

    @property
    def plan(self) -> Plan | None:
        """The best plan by the present estimates; None while one is missing."""
        if not self.draft_time or self.network is None or not self.passes.is_known:
            return None
        draft = self.draft_time / max(0.05, self._share_held)
        estimates = draft, self.network, self.passes.base, self.passes.slope, self.rejections.rate
        if self._plan is None or _is_news(self._planned_for, estimates):
            self._planned_for = estimates
            self._times = Times(*estimates[:4])
            self._plan = best_plan(self._times, self.rejections.rate, drafts_ahead=self.window != 1)
        return self._plan


def _is_news(old: tuple[float, ...], new: tuple[float, ...]) -> bool:
    return any(abs(after - before) > NEWS * before for before, after in zip(old, new, strict=True))


def _smooth(old: float | None, new: float) -> float:
    return new if old is None else old + SMOOTHING * (new - old)
