"""Job: the logits that a session needs next, and the drafts they verify. Pure.

Law: a draft joins the drafts before it only if it continues them token for token, so that one job gives the
same rows as a job per draft would. The number of rows of a job is bounded.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cloud_worker.session.admission import Target, beyond_limits
from cloud_worker.session.backlog import Backlog
from common.protocol.checksum import prefix_check
from common.protocol.messages import Draft, Opening
from common.sampling.mask import Constraint, Masks, num_words

MAX_CHAIN_ROWS = 512  # rows up to which further drafts may join a job

Row = npt.NDArray[np.float32]  # [width]
Rows = npt.NDArray[np.float32]  # [num_rows, width]


@dataclass(frozen=True, slots=True)
class Job:
    """A session's part of a forward pass: logits for the last `num_rows` positions of `tokens`.

    They verify `drafts`, one after the other; without drafts they give the next token of a bonus stream. The
    opening holds the session's sampling settings.
    """

    opening: Opening
    drafts: tuple[Draft, ...]
    tokens: tuple[int, ...]
    num_rows: int
    masks: Constraint | None = None  # of the opening's grammar

    def row_masks(self) -> Masks | None:
        """Which tokens each row allows [num_rows, words]; None without a grammar.

        Rows after a forbidden token allow all: that token is rejected, so they are never judged.
        """
        if self.masks is None:
            return None
        first = len(self.tokens) - self.num_rows + 1
        rows = np.full((self.num_rows, num_words(self.opening.vocab_size)), 0xFFFFFFFF, np.uint32)
        for row, position in zip(rows, range(first, first + self.num_rows), strict=True):
            mask = self.masks.mask(self.tokens, position)
            if mask is None:
                break
            row[:] = mask
        return rows


def chain(
    opening: Opening,
    draft: Draft,
    backlog: Backlog,
    held: list[int],
    target: Target,
    masks: Constraint | None = None,
) -> Job:
    """One job for the draft and the drafts waiting after it, assuming that each block is accepted.

    `held` is the verified prefix up to the draft's base. Drafts that join are taken from `backlog`.
    """
    drafts, tokens = [draft], [*held, *_tokens_of(draft)]
    check = prefix_check(_tokens_of(draft), after=draft.check)  # which has been compared with that of `held`
    first_wanted = draft.base + len(draft.context) - draft.num_context_probs
    while (
        backlog
        and len(tokens) + len(_tokens_of(backlog.next)) - first_wanted <= MAX_CHAIN_ROWS
        and _follows(backlog.next, drafts[-1], len(tokens), check)
        and beyond_limits(backlog.next, target) is None
    ):
        drafts.append(backlog.take())
        tokens += _tokens_of(drafts[-1])
        check = prefix_check(_tokens_of(drafts[-1]), after=check)
    if drafts[-1].block and not drafts[-1].bonus:
        tokens.pop()  # the logits after the last token matter only for a bonus token
    return Job(opening, tuple(drafts), tuple(tokens), len(tokens) - (first_wanted - 1), masks)


def _follows(following: Draft, draft: Draft, length: int, check: int) -> bool:
    """Whether a draft continues the one before it, which ends after `length` tokens with this `check`."""
    return (
        not draft.bonus
        and following.opening is None
        and following.n > draft.n
        and following.epoch == draft.epoch
        and following.base == length
        and following.check == check
    )


def _tokens_of(draft: Draft) -> list[int]:
    return [*draft.context, *(item.token for item in draft.block)]
