"""Which wordings of a pattern there are, and which of them only the held-out commands use.

A *wording* is a pattern with its choices made: "switch {x} on". Law: about 15 % of the wordings of an
action are held out, never seen in training, but every pattern keeps two thirds of its wordings there, and
every word is seen there too: what is tested is new ways to put known words together, not the guessing of
unknown ones.
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
    """The wordings for training, and those held out; every pattern and every word stays in training."""
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
