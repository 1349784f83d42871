"""How many draft tokens make a block, so that the most accepted tokens come back a second. Pure.

Law: it only decides when a block is sent. Acceptance is token by token, so the text is the same at any length
(docs/method.md), and these estimates may be as rough as the measurements they come from.
"""

from dataclasses import dataclass

SMOOTHING = 1 / 8
PRIOR_TESTED = 8  # pseudo-observations, so that the first rejection does not shorten everything
PRIOR_ACCEPTED = 6


@dataclass(slots=True)
class BlockLength:
    """Measured times in seconds, and the rule that follows from them.

    `fixed` switches the rule off; `fallback` is used until a draft and a round trip have been measured.
    """

    window: int
    fixed: int | None = None
    fallback: int = 8
    longest: int = 32
    draft_time: float | None = None  # a token
    verify_time: float = 0.0  # a forward pass
    num_tested: int = 0
    num_accepted: int = 0

    def drafted(self, seconds: float) -> None:
        """The draft model took this long for a token."""
        self.draft_time = _smooth(self.draft_time, seconds)

    def verified(self, seconds: float, num_tested: int, num_accepted: int) -> None:
        """A correction came: the worker's computing time, and how many tokens it tested and accepted."""
        self.verify_time = _smooth(self.verify_time or None, seconds)
        self.num_tested += num_tested
        self.num_accepted += num_accepted

    @property
    def acceptance(self) -> float:
        """The estimated probability that a draft token is accepted."""
        return (self.num_accepted + PRIOR_ACCEPTED) / (self.num_tested + PRIOR_TESTED)

    def is_full(self, num_held: int, round_trip: float | None) -> bool:
        """Whether a block of `num_held` tokens should go up now; `round_trip` includes the verification."""
        if num_held == 0:
            return False
        if self.fixed is not None:
            return num_held >= self.fixed
        if not self.draft_time or round_trip is None:
            return num_held >= self.fallback
        if num_held >= self.longest:
            return True
        if self.window > 1:
            return num_held >= self._pipelined(self.draft_time, round_trip)
        return not self._pays_to_wait(num_held, self.draft_time, round_trip)

    def _pipelined(self, draft_time: float, round_trip: float) -> float:
        """The shortest block with which drafting never waits, and the target is not asked twice a pass.

        `window` blocks must last for a round trip; more blocks than forward passes would only queue up.
        """
        return max(round_trip / self.window, self.verify_time) / draft_time

    def _pays_to_wait(self, num_held: int, draft_time: float, round_trip: float) -> bool:
        """Stop and wait: whether one more token raises the expected tokens a second.

        A block of n yields (1 - a^n) / (1 - a) tokens on average, the one after a rejection included, in
        n * draft_time + round_trip; the next token adds a^n for one draft_time.
        """
        a = min(self.acceptance, 0.999)
        gained = a**num_held
        expected = (1 - gained) / (1 - a)
        return gained / draft_time > expected / (num_held * draft_time + round_trip)


def _smooth(old: float | None, new: float) -> float:
    return new if old is None else old + SMOOTHING * (new - old)
