"""What became of one reply. Pure values."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from evaluation.quality.setting import Setting

PARTS = 10_000  # drift, bound and bias are written in ten-thousandths of a token


@dataclass(frozen=True, slots=True)
class Reply:
    """One text. `edits` is its edit distance to the target's text for the same command and seed.

    `drift` is the sum of the rejection probabilities of all skipped tokens, `bound` what a line expected it
    to be, and `bias` the sum over verified tokens of the probability of a correction that truncation
    made wrong.
    """

    command: int
    seed: int
    is_right: int
    edits: int
    tokens: int
    skipped: int
    drift: int
    bound: int
    bias: int


Replies: TypeAlias = Mapping[Setting, Sequence[Reply]]
