"""How many draft tokens make a block, for the most accepted tokens per second. Pure.

Law: it only decides when a block is sent. Tokens are accepted one by one, so the text is the same at any
length (docs/method.md), and these estimates may be as rough as the measurements they come from.
"""

from dataclasses import dataclass

from edge_agent.session.block import Block

SMOOTHING = 1 / 8
RISK_PER_TOKEN = 0.01  # see `_pipelined`
PRIOR_TESTED = 8  # pseudo-observations, so that the first rejection does not shorten everything
PRIOR_ACCEPTED = 6


@dataclass(slots=True)
class BlockLength:
    """Measured times in seconds, and the rule based on them.

    `fixed` switches the rule off; `fallback` is used until a draft and a round trip have been measured.
    """

    window: int
    fixed: int | None = None
    fallback: int = 8
    longest: int = 32
    draft_time: float | None = None  # per token
    verify_time: float = 0.0  # per forward pass
    num_tested: int = 0
    num_accepted: int = 0

    def drafted(self, seconds: float) -> None:
        """Take in how long the draft model took for one token."""
        self.draft_time = _smooth(self.draft_time, seconds)

    def verified(self, seconds: float, num_tested: int, num_accepted: int) -> None:
        """Take in a correction: the worker's computing time, and how many tokens it tested and accepted."""
        self.verify_time = _smooth(self.verify_time or None, seconds)
        self.num_tested += num_tested
        self.num_accepted += num_accepted

    @property
    def acceptance(self) -> float:
        """The estimated probability that a draft token is accepted."""
        return (self.num_accepted + PRIOR_ACCEPTED) / (self.num_tested + PRIOR_TESTED)

    def is_full(self, held: Block, round_trip: float | None, num_in_flight: int) -> bool:
        """Whether the held tokens should go up now; `round_trip` includes the verification."""
        num_held = len(held)
        if num_held == 0:
            return False
        if self.fixed is not None:
            return num_held >= self.fixed
        if not self.draft_time or round_trip is None:
            is_first = (
                self.window > 1 and num_in_flight == 0
            )  # it finds a worker, which starts to read the prompt
            return is_first or num_held >= self.fallback
        if num_held >= self.longest:
            return True
        if self.window > 1:
            return self._pipelined(held, self.draft_time, round_trip, num_in_flight)
        return not self._pays_to_wait(num_held, self.draft_time, round_trip)

    def _pipelined(self, held: Block, draft_time: float, round_trip: float, num_in_flight: int) -> bool:
        """While drafting goes on during verification: whether holding another token costs more than a block.

        A block has a minimum length: `window` blocks must last for a round trip, and more blocks than forward
        passes would only queue up. Beyond it, holding a token costs its probability of rejection times the
        delay until that is known; a block costs a forward pass, for which the next uncertain token may have
        to wait. The two are equal near RISK_PER_TOKEN of a rejection per token of the minimum length (found
        by replaying the demo pair's drafts; half or twice that changes speeds by 1 %). With nothing in
        flight, as after a rejection, the target is idle and its pass costs nothing, so there is no minimum.
        """
        least = max(1.0, max(round_trip / self.window, self.verify_time) / draft_time)
        return (num_in_flight == 0 or len(held) >= least) and held.risk >= RISK_PER_TOKEN * least

    def _pays_to_wait(self, num_held: int, draft_time: float, round_trip: float) -> bool:
        """Stop and wait: whether one more token raises the expected tokens per second.

        A block of n yields (1 - a^n) / (1 - a) tokens on average, the one after a rejection included, in
        n * draft_time + round_trip; the next token adds a^n for one draft_time.
        """
        a = min(self.acceptance, 0.999)
        gained = a**num_held
        expected = (1 - gained) / (1 - a)
        return gained / draft_time > expected / (num_held * draft_time + round_trip)


def _smooth(old: float | None, new: float) -> float:
    return new if old is None else old + SMOOTHING * (new - old)
