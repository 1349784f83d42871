"""Job: one forward pass of a session, and which waiting drafts it serves. Pure.

Law: a draft joins those before it only as their continuation, token for token, so that the rows of one pass
are what passes of their own would have given; and a pass has a bounded number of rows.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cloud_worker.session.admission import Target, beyond_limits
from cloud_worker.session.backlog import Backlog
from common.protocol.checksum import prefix_check
from common.protocol.messages import Draft, Opening

MAX_CHAIN_ROWS = 512  # logits of a job that more drafts have joined

Rows = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Job:
    """One forward pass: logits are wanted for the last `num_rows` positions of `tokens`.

    It serves the given drafts, one after the other; none of them means the next token of a bonus stream. The
    opening says how the session samples.
    """

    opening: Opening
    drafts: tuple[Draft, ...]
    tokens: tuple[int, ...]
    num_rows: int


def chain(opening: Opening, draft: Draft, waiting: Backlog, held: list[int], target: Target) -> Job:
    """One job for the draft and those waiting behind it, assuming that each block is accepted.

    `held` is the verified prefix up to the draft's base. The drafts that join are taken from `waiting`.
    """
    drafts, tokens = [draft], [*held, *_tokens_of(draft)]
    first_wanted = draft.base + len(draft.context) - draft.num_context_probs
    while (
        waiting
        and len(tokens) + len(_tokens_of(waiting.next)) - first_wanted <= MAX_CHAIN_ROWS
        and _follows(waiting.next, drafts[-1], tokens)
        and beyond_limits(waiting.next, target) is None
    ):
        drafts.append(waiting.take())
        tokens += _tokens_of(drafts[-1])
    if drafts[-1].block and not drafts[-1].bonus:
        tokens.pop()  # what follows the last token is wanted for a bonus only
    return Job(opening, tuple(drafts), tuple(tokens), len(tokens) - (first_wanted - 1))


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
