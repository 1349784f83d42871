"""The drafts of one session that wait to be verified, and how much memory they take. Pure.

Law 5: the backlog is bounded: in drafts, in tokens, and in bytes (by the scheduler, per device).
"""

from collections import deque
from collections.abc import Iterator

from common.protocol.messages import Draft
from common.sampling.distribution import Dense, Distribution, Lattice, TopK

MAX_DRAFTS = 64  # waiting drafts of one session
BYTES_PER_TOKEN = 64  # a Python integer, its slot in a tuple, and its share of the objects around it


class Backlog:
    """Drafts, first in, first out; `num_bytes` is roughly the memory they take."""

    def __init__(self, max_tokens: int) -> None:
        """`max_tokens` bounds the context tokens of all waiting drafts together."""
        self._max_tokens = max_tokens
        self._drafts: deque[Draft] = deque()
        self.num_bytes = 0

    def __len__(self) -> int:
        return len(self._drafts)

    def __iter__(self) -> Iterator[Draft]:
        return iter(self._drafts)

    @property
    def next(self) -> Draft:
        """The draft that `take` would return."""
        return self._drafts[0]

    def has_room(self, draft: Draft) -> bool:
        """Whether the draft can be added."""
        num_tokens = sum(len(waiting.context) for waiting in (*self._drafts, draft))
        return len(self._drafts) < MAX_DRAFTS and num_tokens <= self._max_tokens

    def add(self, draft: Draft) -> None:
        """Append a draft."""
        self._drafts.append(draft)
        self.num_bytes += draft_bytes(draft)

    def take(self) -> Draft:
        """Remove and return the oldest draft."""
        draft = self._drafts.popleft()
        self.num_bytes -= draft_bytes(draft)
        return draft

    def clear(self) -> list[Draft]:
        """Remove and return all drafts."""
        drafts = list(self._drafts)
        self._drafts.clear()
        self.num_bytes = 0
        return drafts


def draft_bytes(draft: Draft) -> int:
    """Roughly how many bytes of memory a decoded draft takes."""
    num_bytes = BYTES_PER_TOKEN * (1 + len(draft.context) + len(draft.block))
    return num_bytes + sum(_distribution_bytes(token.distribution) for token in draft.block)


def _distribution_bytes(distribution: Distribution | None) -> int:
    match distribution:
        case Lattice():
            return distribution.ids.nbytes + distribution.counts.nbytes
        case Dense():
            return distribution.weights.nbytes
        case TopK():
            return distribution.ids.nbytes + distribution.codes.nbytes
        case None:
            return 0
