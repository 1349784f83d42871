"""Which slot a conversation gets: each slot is a key/value cache that holds what was read there last. Pure.

Law: the choice saves reading and costs no conversation its cache without need. A prompt that continues what a
slot holds, or that a slot holds whole, gets that slot: of several the one with the longest common beginning,
then the one used least recently. Any other prompt gets the slot used least recently, whose conversation is
the least likely to go on. A beginning that it shares with another slot, such as a system prompt, is copied
from there (`DraftModel`), so it is no reason to take that slot from its conversation.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

FALLEN = 32  # tokens: what was drafted ahead and rejected stands at the end of a cache
FALLEN_SHARE = 8  # or one in so many: a template may write an earlier answer differently


@dataclass(frozen=True, slots=True)
class Held:
    """What a free slot holds, and the number of the use that left it there; 0: never used."""

    tokens: Sequence[int]
    last_used: int


def choose(prompt: Sequence[int], free: Mapping[int, Held]) -> int:
    """The slot for `prompt` among the free ones, of which there is at least one."""
    wanted = list(prompt)
    common = {slot: common_length(wanted, list(held.tokens)) for slot, held in free.items()}
    fitting = [slot for slot, held in free.items() if _fits(common[slot], len(wanted), len(held.tokens))]
    if fitting:
        return max(fitting, key=lambda slot: (common[slot], -free[slot].last_used, -slot))
    return min(free, key=lambda slot: (free[slot].last_used, slot))


def _fits(common: int, num_wanted: int, num_held: int) -> bool:
    if common == num_wanted:
        return True
    return 2 * common >= num_held > 0 and num_held - common <= max(FALLEN, num_held // FALLEN_SHARE)


def common_length(left: list[int], right: list[int]) -> int:
    """How many leading tokens two sequences share."""
    shorter = min(len(left), len(right))
    if left[:shorter] == (right if shorter == len(right) else right[:shorter]):
        return shorter
    pairs = enumerate(zip(left, right, strict=False))
    return next((index for index, (one, other) in pairs if one != other), shorter)
