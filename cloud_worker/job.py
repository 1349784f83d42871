"""Job: one forward pass of a session, and which waiting drafts it serves. Pure.

Law: a draft joins those before it only as their continuation, token for token, so that the rows of one pass
are what passes of their own would have given; and a pass has a bounded number of rows.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cloud_worker.admission import Target, beyond_limits
from cloud_worker.backlog import Backlog
from common.checksum import prefix_check
from common.distribution import fit_vocabulary, warp
from common.messages import Draft, Opening
from common.randomness import FloatArray

MAX_CHAIN_ROWS = 512  # logits of one job that more drafts may join

Rows = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Job:
    """One forward pass: logits are wanted for the last `num_rows` positions of `tokens`.

    It serves the given drafts, one after the other; none of them means the next token of a bonus stream.
    """

    drafts: tuple[Draft, ...]
    tokens: tuple[int, ...]
    num_rows: int


class TargetProbs:
    """The target's warped distribution for each position that the rows of a job predict."""

    def __init__(self, job: Job, rows: Rows, opening: Opening) -> None:
        """`rows` [num_rows, width] are the job's logits."""
        self.opening = opening
        self._rows = rows
        self._first_predicted = len(job.tokens) - job.num_rows + 1

    def at(self, position: int) -> FloatArray:
        """y [vocab_size] for the token at `position`."""
        row = fit_vocabulary(self._rows[position - self._first_predicted], self.opening.vocab_size)
        return warp(row, self.opening.sampling)


def chain(draft: Draft, waiting: Backlog, held: list[int], target: Target) -> Job:
    """One job for the draft and those waiting behind it, assuming that each block is accepted.

    `held` is the verified prefix up to the draft's base. The drafts that join are taken from `waiting`.
    """
    drafts = [draft]
    tokens = [*held, *_tokens_of(draft)]
    first_wanted = draft.base + len(draft.context) - draft.num_context_probs
    while (
        waiting
        and len(tokens) - first_wanted < MAX_CHAIN_ROWS
        and _follows(waiting.next, drafts[-1], tokens)
        and beyond_limits(waiting.next, target) is None
    ):
        drafts.append(waiting.take())
        tokens += _tokens_of(drafts[-1])
    if drafts[-1].block and not drafts[-1].bonus:
        tokens.pop()  # what follows the last token is wanted for a bonus only
    return Job(tuple(drafts), tuple(tokens), len(tokens) - (first_wanted - 1))


def _follows(following: Draft, draft: Draft, tokens: list[int]) -> bool:
    """Whether a draft continues the one before it, which ends at `tokens`."""
    return (
        not draft.bonus
        and following.opening is None
        and following.n > draft.n
        and following.epoch == draft.epoch
        and following.base == len(tokens)
        and following.check == prefix_check(tokens)
    )


def _tokens_of(draft: Draft) -> list[int]:
    return [*draft.context, *(item.token for item in draft.block)]
