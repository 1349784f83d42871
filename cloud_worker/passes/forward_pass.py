"""What is asked of the target model: next-token logits at the last positions of a whole sequence. Pure.

A `Pass` is what one session asks for; a forward pass of the model serves the passes of many sessions.
Law: a pass is complete in itself, so its answer never depends on what the model happens to have cached.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

MAX_CHUNKS = 4  # of prompt positions in one forward pass
SMALL_SHARE = 8  # a pass that lacks at most an eighth of a chunk is never cut or postponed


@dataclass(frozen=True, slots=True)
class Pass:
    """Logits for the last `num_rows` positions of `tokens`; with 0 rows, only the cache is filled.

    `tokens` is the whole sequence from position 0. `session` names the cache that may hold a part of it.
    Sessions with the same `owner` share an allowance (None: no owner and no bounds).
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
        """The first position whose logits are wanted; len(tokens) if none are."""
        return len(self.tokens) - self.num_rows

    def start(self, num_common: int) -> int:
        """The first position to compute when `num_common` are cached: wanted rows are always computed."""
        return min(num_common, self.first_row)

    def shortened(self, num_missing: int, max_tokens: int) -> "Pass":
        """This pass, or its beginning without rows if more than `max_tokens` positions are missing.

        This way a long prompt is computed in chunks beside the verifications of other sessions and stalls
        none of them. Only the positions before the wanted rows are split: rows are computed together.
        """
        start = len(self.tokens) - num_missing
        if num_missing <= max_tokens or start >= self.first_row:
            return self
        head = self.tokens[: min(start + max_tokens, self.first_row)]
        return Pass(self.session, head, num_rows=0, owner=self.owner)

    def piece(self, num_missing: int, max_tokens: int) -> "Pass":
        """This pass, or its beginning if more than `max_tokens` positions are missing, rows included."""
        end = len(self.tokens) - num_missing + max_tokens
        if end >= len(self.tokens):
            return self
        return Pass(self.session, self.tokens[:end], max(0, end - self.first_row), owner=self.owner)


def in_chunks(passes: Sequence[Pass], num_missing: Sequence[int], chunk_tokens: int) -> list[Pass | None]:
    """What of each pass runs now: all of it, its beginning without rows, or nothing (None).

    A session advances by at most `chunk_tokens`, and all sessions together by MAX_CHUNKS times as many, so
    that the next batch does not wait long. If the passes have several owners, each owner has one chunk for
    all its sessions, in the order given, so that an owner with many prompts does not slow down the others.
    Small passes always run, and so does the first one.
    """
    in_all = MAX_CHUNKS * chunk_tokens
    is_shared = len({one.owner for one in passes}) > 1
    room: dict[Hashable, int] = {}
    chunks: list[Pass | None] = []
    for one, missing in zip(passes, num_missing, strict=True):
        allowance = one.owner if is_shared else one.session
        left = min(room.setdefault(allowance, chunk_tokens), in_all)
        if missing * SMALL_SHARE <= chunk_tokens:
            chunks.append(one)
        elif left <= 0:
            chunks.append(None)
        else:
            chunk = one.shortened(missing, left)
            num_run = missing - (len(one.tokens) - len(chunk.tokens))
            room[allowance] -= num_run
            in_all -= num_run
            chunks.append(chunk)
    return chunks


def common_prefix(first: Sequence[int], second: Sequence[int]) -> int:
    """How many leading tokens two sequences share."""
    length = min(len(first), len(second))
    if list(first[:length]) == list(second[:length]):
        return length
    return next(index for index in range(length) if first[index] != second[index])
