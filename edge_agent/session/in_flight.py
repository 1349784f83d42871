"""A draft in flight, and the message it is sent in, with the whole context or only its end. Pure.

Law: however often it is sent, and to any worker, its number and its block stay the same; only the amount of
context changes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from common.protocol.checksum import prefix_check
from common.protocol.end_ids import split_end_ids
from common.protocol.messages import Correction, Draft, DraftToken, Opening, Refusal
from edge_agent.session.held import Piece


@dataclass(slots=True)
class InFlight:
    """A block [start, start + len(block)) and the bonus tokens after it, waiting for their correction.

    `base` is what the worker holds once all earlier drafts are accepted. `num_tries` counts how often it was
    sent, `num_silences` how often since its last refusal. `awaits_worker` means that it is sent once the
    worker is known, `is_paused` that it was refused and is sent again at its deadline. Times are seconds on
    the caller's clock; a draft is asked when the session first wants to send it, even if it must wait for the
    link.
    """

    n: int
    epoch: int
    base: int
    start: int
    block: tuple[DraftToken, ...]
    bonus: int
    num_context_probs: int
    risk: float = 0.0  # see `Piece`
    hazard: float = 0.0
    num_positions: int = 0  # that the worker reads for all that was launched together
    was_behind: bool = False  # another draft was in flight when it was launched
    asked_at: float = 0.0
    awaits_worker: bool = False
    is_paused: bool = False
    num_tries: int = 0
    num_silences: int = 0
    first_sent_at: float = 0.0
    sent_at: float = 0.0
    sent_to: str | None = None  # the worker, where one was known
    deadline: float = 0.0
    next_index: int = 0  # of the bonus stream
    too_long: Refusal | None = None  # a worker's, which takes effect once all earlier drafts are accepted

    @property
    def end(self) -> int:
        """The position after the block."""
        return self.start + len(self.block)

    @property
    def piece(self) -> Piece:
        """Its block, to be held again."""
        return Piece(self.start, list(self.block), self.risk, self.hazard)

    @property
    def is_stream(self) -> bool:
        """Whether further bonus tokens follow the verdict."""
        return self.bonus > 1

    def fits(self, correction: Correction, vocab_size: int) -> bool:
        """Whether a correction can belong to this draft; a faulty worker must not break the text."""
        is_whole = correction.num_accepted == len(self.block)
        token_fits = correction.token is None or correction.token < vocab_size
        token_needed = not is_whole or self.bonus > 0
        return (
            correction.num_accepted <= len(self.block)
            and token_fits
            and (correction.token is not None) == token_needed
            and correction.index == self.next_index
        )

    def context_codes(self, correction: Correction) -> bytes:
        """The context probabilities in its answer, one byte each; none if their number is wrong."""
        return split_end_ids(correction.context_codes, self.num_context_probs)[0]

    def end_ids(self, correction: Correction) -> frozenset[int]:
        """The target's end tokens, if its answer lists them."""
        if correction.index > 0:
            return frozenset()
        return split_end_ids(correction.context_codes, self.num_context_probs)[1]

    def message(self, tokens: Sequence[int], opening: Opening, *, whole: bool) -> Draft:
        """The draft with everything before its block (`whole`) or only what came after `base`."""
        base = 0 if whole else self.base
        return Draft(
            n=self.n,
            epoch=self.epoch,
            base=base,
            context=tuple(tokens[base : self.start]),
            block=self.block,
            bonus=self.bonus,
            num_context_probs=self.num_context_probs,
            check=prefix_check(tokens[:base]),
            opening=opening if base == 0 else None,
        )
