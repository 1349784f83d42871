"""What a target model is asked for: next-token logits at the last positions of a whole sequence.

Law: a pass says everything, so its answer never depends on what the model happens to have cached.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

MAX_CHUNKS = 4  # of prompt positions in one pass
SMALL_SHARE = 8  # a pass that lacks at most a chunk's eighth is never cut or put off


@dataclass(frozen=True, slots=True)
class Pass:
    """Logits wanted for the last `num_rows` positions of `tokens`; 0 rows only bring the cache up to there.

    `tokens` is the whole sequence from position 0; `session` names the cache that may hold a part of it, and
    `owner` whose sessions share one allowance (None: nobody's, without bounds).
    """

    session: Hashable
    tokens: Sequence[int]
    num_rows: int = 1
    owner: Hashable = None

    def __post_init__(self) -> None:
        if not self.tokens:
            raise ValueError("a pass needs at least one token")
        if not 0 <= self.num_rows <= len(self.tokens):
            raise ValueError(f"{self.num_rows} rows of {len(self.tokens)} tokens")

    @property
    def first_row(self) -> int:
        """The first position whose logits are wanted; len(tokens) when none are."""
        return len(self.tokens) - self.num_rows

    def start(self, num_common: int) -> int:
        """The first position to compute when `num_common` are cached: wanted rows are computed anew."""
        return min(num_common, self.first_row)

    def shortened(self, num_missing: int, max_tokens: int) -> "Pass":
        """This pass, or a head of it (without rows) where more than `max_tokens` positions are missing.

        So a long prompt is fed in pieces beside other sessions' verifications, and stalls none of them. Only
        what comes before the wanted rows is fed so: rows are computed together.
        """
        start = len(self.tokens) - num_missing
        if num_missing <= max_tokens or start >= self.first_row:
            return self
        head = self.tokens[: min(start + max_tokens, self.first_row)]
        return Pass(self.session, head, num_rows=0, owner=self.owner)


def in_pieces(passes: Sequence[Pass], num_missing: Sequence[int], chunk_tokens: int) -> list[Pass | None]:
    """What of each pass is run now: all of it, a head of it without rows, or nothing (None).

    A session advances by `chunk_tokens` at most, all of them together by MAX_CHUNKS times that, so that who
    comes next does not wait long. Where several owners meet, a chunk is the allowance of each owner for all
    its sessions, in the order given, so that nobody is slowed down by how many prompts another one brings at
    once. Small passes are always run, and so is the first.
    """
    in_all = MAX_CHUNKS * chunk_tokens
    is_shared = len({one.owner for one in passes}) > 1
    room: dict[Hashable, int] = {}
    pieces: list[Pass | None] = []
    for one, missing in zip(passes, num_missing, strict=True):
        allowance = one.owner if is_shared else one.session
        left = min(room.setdefault(allowance, chunk_tokens), in_all)
        if missing * SMALL_SHARE <= chunk_tokens:
            pieces.append(one)
        elif left <= 0:
            pieces.append(None)
        else:
            piece = one.shortened(missing, left)
            num_run = missing - (len(one.tokens) - len(piece.tokens))
            room[allowance] -= num_run
            in_all -= num_run
            pieces.append(piece)
    return pieces


def common_prefix(first: Sequence[int], second: Sequence[int]) -> int:
    """How many leading tokens two sequences share."""
    length = min(len(first), len(second))
    if list(first[:length]) == list(second[:length]):
        return length
    return next(index for index in range(length) if first[index] != second[index])
