"""Whether the target model writes on alone, streamed down, or the draft model does. Pure.

Law: it decides who is asked for a token first, never which token it is. It is for schemes in which the
target's own choice for the seed stands at every position, drafted or streamed, so the text does not depend
on it. The estimates may be as rough as the measurements that they come from.

A text of an agent that knows nothing yet is streamed. Meanwhile the draft model reads the prompt and writes a
few tokens for itself. They show how long it takes and how often it is right, and cost the text no time.
"""

from dataclasses import dataclass, replace

from edge_agent.session.plan import Plan, Times, best_plan
from edge_agent.session.rejection_rate import DEFAULT_RATE, LEAST_RATE, RejectionRate

SMOOTHING = 1 / 8
MARGIN = 0.05  # streaming must be faster by this share: drafting spares the worker
EVIDENCE = 12  # tested draft tokens of this text, before it goes on without drafts
PRIOR_TOKENS = 48.0  # tokens for which earlier texts count, beside what this one has shown
MOST_BIAS = 2.0
MEMORY = 48.0  # tested tokens that all earlier texts count for: rejections come in groups
TAKEOVER = 0.02  # drafting must be faster by this share to break off a stream
EXPECTED_TOKENS = 48  # of the rest of a text, at most: most answers end before `max_tokens`
MAX_TAKEOVERS = 2  # in a text
NEAR = 2  # tokens that the draft model may be behind the stream
MAX_SHADOWS = 64  # draft tokens beside a stream, in a text
HOPE = 0.03  # rejections of an easy text: where not even it is drafted faster, none is tried


@dataclass(frozen=True, slots=True)
class Streamed:
    """What the texts so far have shown.

    `overhead` is the seconds of a streamed token beyond its pass, `reading` those of a prompt token that the
    draft model reads, and `bias` how much faster drafting was than its plan. Of `num_tested` draft tokens
    `num_rejected` were rejected.
    """

    overhead: float | None = None
    reading: float = 0.0
    bias: float = 1.0
    num_tested: float = 8.0
    num_rejected: float = 8.0 * DEFAULT_RATE


@dataclass(frozen=True, slots=True)
class Outlook:
    """The estimates of this moment: seconds, and the best plan for drafting the rest of the text."""

    times: Times
    plan: Plan


@dataclass(frozen=True, slots=True)
class Guess:
    """A token that the draft model expects at a position which the target model writes alone.

    None is a token that a grammar forces on both.
    """

    position: int
    token: int | None
    risk: float = 0.0


class Streaming:
    """`is_chosen`: the target model writes alone for now."""

    def __init__(self, known: Streamed, *, is_allowed: bool) -> None:
        self.is_chosen = False
        self.guess: Guess | None = None  # drafted beside the stream, and not compared yet
        self.is_allowed = is_allowed
        self._known = known
        self._overhead = known.overhead
        self._reading = known.reading
        self._last_token_at: float | None = None
        self._num_takeovers = self._num_shadows = 0
        self._has_caught_up = False
        self._since: float | None = None  # the first answer about drafts
        self._last_answer_at = 0.0
        self._num_final = 0  # tokens, at the last such answer
        self._pace = 0.0  # seconds per drafted token, by the last plan
        self._expected = 0.0  # seconds that the plans expected for the tokens since then

    def learned(self, rejections: RejectionRate) -> Streamed:
        """What the next text begins with, after the `rejections` of this one."""
        num_tested = self._known.num_tested + rejections.num_tested
        share = min(1.0, MEMORY / num_tested)
        return Streamed(
            self._overhead,
            self._reading,
            self._bias(PRIOR_TOKENS * self._pace),
            share * num_tested,
            share * (self._known.num_rejected + rejections.num_rejected),
        )

    def rejection(self, rejections: RejectionRate) -> float:
        """The rate to expect of the rest of the text, which a few rejections in a row do not change much."""
        num_rejected = self._known.num_rejected + rejections.num_rejected
        return max(LEAST_RATE, num_rejected / (self._known.num_tested + rejections.num_tested))

    # -- what is measured -------------------------------------------------------------------------------

    def token_came(self, now: float, compute: float) -> None:
        """A further token of a stream has come, whose pass took `compute` seconds."""
        if self._last_token_at is not None:
            beyond = max(0.0, now - self._last_token_at - compute)
            before = beyond if self._overhead is None else self._overhead
            self._overhead = before + SMOOTHING * (beyond - before)
        self._last_token_at = now

    def prompt_read(self, seconds: float, num_tokens: int) -> None:
        """The first draft token of the text took this long; before it `num_tokens` were read."""
        per_token = seconds / max(1, num_tokens)
        before = self._reading or per_token
        self._reading = before + 2 * SMOOTHING * (per_token - before)

    def shadowed(self, num_new: int) -> None:
        """The draft model has written a token beside the stream, after reading `num_new` tokens."""
        self._num_shadows += 1
        self._has_caught_up = num_new <= NEAR

    # -- what follows -----------------------------------------------------------------------------------

    def begin(self, outlook: Outlook | None, num_unread: int) -> None:
        """A text begins, and the draft model must read `num_unread` tokens first."""
        if not self.is_allowed:
            return
        if outlook is None or self._streaming_pays(outlook):
            self.is_chosen = True
            return
        times = outlook.times
        waits = num_unread * self._reading - times.network - times.forward(num_unread)
        stall = times.network + outlook.plan.length * times.draft
        self.is_chosen = waits > stall and self._num_takeovers < MAX_TAKEOVERS

    def answered(self, outlook: Outlook | None, now: float, num_final: int, num_tested: int) -> None:
        """An answer about drafts has come: `num_final` tokens of this text are final, `num_tested` judged."""
        if not self.is_allowed or outlook is None:
            return
        if self._since is None:
            self._since = now
        else:
            self._expected += (num_final - self._num_final) / outlook.plan.rate
        self._num_final, self._last_answer_at, self._pace = num_final, now, 1.0 / outlook.plan.rate
        if num_tested >= EVIDENCE and self._streaming_pays(outlook):
            self._known = replace(self._known, bias=self._bias(PRIOR_TOKENS * self._pace))
            self.is_chosen = True
            self._last_token_at = self._since = None
            self._expected = 0.0

    def wants_shadow(self, outlook: Outlook | None) -> bool:
        """Whether the draft model should write a token beside the stream: it shows what drafting brings."""
        if self.guess is not None or self._num_takeovers >= MAX_TAKEOVERS or self._num_shadows >= MAX_SHADOWS:
            return False
        if outlook is None:
            return True
        hoped = best_plan(outlook.times, HOPE, drafts_ahead=True).rate
        return hoped > (1.0 + TAKEOVER) * self.streaming_rate(outlook)

    def takes_over(self, outlook: Outlook | None, num_left: int) -> bool:
        """Whether to break off the stream and draft, with at most `num_left` tokens to come.

        A draft model that cannot keep up with the stream is slower than it.
        """
        if outlook is None or not self._has_caught_up or self._num_takeovers >= MAX_TAKEOVERS:
            return False
        streamed, drafted = self.streaming_rate(outlook), self.drafting_rate(outlook)
        gained = min(num_left, EXPECTED_TOKENS) * (1.0 / streamed - 1.0 / drafted)
        times = outlook.times
        stall = times.network + times.forward(outlook.plan.length)
        return drafted > (1.0 + TAKEOVER) * streamed and gained > stall

    def go_on_without_drafts(self) -> None:
        """The draft model has failed: the target writes the rest of this text."""
        self.is_chosen = True
        self.guess = None
        self._num_takeovers = MAX_TAKEOVERS

    def take_over(self) -> None:
        """The stream is broken off, and the draft model writes on."""
        self._num_takeovers += 1
        self.give_up()

    def give_up(self) -> None:
        """The target does not write alone any longer."""
        self.is_chosen = False
        self.guess = None
        self._last_token_at = None

    # -- rates, in tokens per second --------------------------------------------------------------------

    def streaming_rate(self, outlook: Outlook) -> float:
        """Of a stream."""
        return 1.0 / max(1e-9, outlook.times.forward(1) + (self._overhead or 0.0))

    def drafting_rate(self, outlook: Outlook) -> float:
        """Of drafting: the plan's, corrected by how well plans have been kept."""
        return outlook.plan.rate * self._bias(PRIOR_TOKENS / outlook.plan.rate)

    def _streaming_pays(self, outlook: Outlook) -> bool:
        return self.streaming_rate(outlook) > (1.0 + MARGIN) * self.drafting_rate(outlook)

    def _bias(self, prior_seconds: float) -> float:
        """Expected over taken seconds, where earlier texts count for `prior_seconds`."""
        if self._since is None or prior_seconds <= 0.0:
            return self._known.bias
        taken = self._last_answer_at - self._since
        bias = (prior_seconds + self._expected) / (prior_seconds / self._known.bias + taken)
        return min(MOST_BIAS, max(1.0 / MOST_BIAS, bias))
