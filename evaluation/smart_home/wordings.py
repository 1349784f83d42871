"""The wordings of a pattern, and which of them only the held-out commands use.

A *wording* is a pattern with its choices made: "switch {x} on". Law: about 15 % of the wordings of an action
are held out of training. Every pattern keeps at least two thirds of its wordings in training, and every word
occurs in training, so that the test is to combine known words in new ways, not to guess unknown words.
"""

import hashlib
import re
from collections import Counter
from functools import cache
from itertools import product

HELD_OUT_SHARE = 0.15


@cache
def expand(pattern: str) -> tuple[str, ...]:
    """Return all wordings of a pattern: every combination of its choices "(a|b)"."""
    parts = re.split(r"\(([^()]*)\)", pattern)
    choices = [part.split("|") if number % 2 else [part] for number, part in enumerate(parts)]
    return tuple("".join(made) for made in product(*choices))


def _rank(wording: str) -> str:
    return hashlib.sha256(wording.encode()).hexdigest()


@cache
def split_wordings(patterns: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the wordings for training and the held-out ones; every pattern and word stays in training."""
    pattern_of = {wording: pattern for pattern in patterns for wording in expand(pattern)}
    wordings = sorted(pattern_of, key=_rank)
    num_uses = Counter(word for wording in wordings for word in set(wording.split()))
    room = {pattern: len(expand(pattern)) // 3 for pattern in patterns}
    held_out: list[str] = []
    for wording in wordings:
        words = set(wording.split())
        if room[pattern_of[wording]] and all(num_uses[word] > 1 for word in words):
            held_out.append(wording)
            room[pattern_of[wording]] -= 1
            num_uses.subtract(words)
    chosen = frozenset(held_out[: round(HELD_OUT_SHARE * len(wordings))])
    return tuple(wording for wording in wordings if wording not in chosen), tuple(sorted(chosen))
