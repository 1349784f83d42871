"""Which wordings of a pattern there are, and which of them only the held-out commands use.

A *wording* is a pattern with its choices made: "switch {x} on". Law: about 15 % of the wordings of every
action are held out, never seen in training, but each of their words is seen in other wordings of the same
action: what is tested is new ways to put known words together, not the guessing of unknown words.
"""

import hashlib
import re
from collections import Counter
from functools import cache
from itertools import product

HELD_OUT_SHARE = 0.15


@cache
def expand(pattern: str) -> tuple[str, ...]:
    """All wordings of a pattern: every choice "(a|b)" made in every way."""
    parts = re.split(r"\(([^()]*)\)", pattern)
    choices = [part.split("|") if number % 2 else [part] for number, part in enumerate(parts)]
    return tuple("".join(made) for made in product(*choices))


def _rank(wording: str) -> str:
    return hashlib.sha256(wording.encode()).hexdigest()


@cache
def split_wordings(patterns: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The wordings for training, and those held out; every word of the latter stays in training."""
    wordings = sorted({wording for pattern in patterns for wording in expand(pattern)}, key=_rank)
    num_uses = Counter(word for wording in wordings for word in set(wording.split()))
    held_out: list[str] = []
    for wording in wordings:
        words = set(wording.split())
        if len(held_out) < HELD_OUT_SHARE * len(wordings) and all(num_uses[word] > 2 for word in words):
            held_out.append(wording)
            num_uses.subtract(words)
    chosen = frozenset(held_out)
    return tuple(wording for wording in wordings if wording not in chosen), tuple(held_out)
