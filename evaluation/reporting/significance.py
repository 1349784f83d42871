"""Paired tests and Holm's correction for many claims. Pure.

A paired test asks whether differences by command are 0 on average: if so, each may as well have the other
sign (Fisher 1935). Holm's correction (1979) holds for claims that depend on each other, as those about
schemes with the same commands and seeds do.
"""

from collections.abc import Sequence

import numpy as np

from common.sampling.randomness import FloatArray

NUM_FLIPS = 20_000
LEVEL = 0.05  # of the adjusted p-values below which a difference stands
_SLACK = 1e-9  # sums of the same numbers in another order are equal


def paired_p_value(differences: FloatArray, *, seed: int = 0) -> float:
    """Return the two-sided p-value that some differences [n] have mean 0, from random signs.

    The least is 1 / (NUM_FLIPS + 1); it is 1 when no difference is found.
    """
    found = differences[differences != 0.0]
    if not len(found):
        return 1.0
    signs = np.random.default_rng(seed).integers(0, 2, (NUM_FLIPS, len(found)), np.int8) * 2 - 1
    sums = np.abs(signs @ found)
    return float((1 + np.count_nonzero(sums >= abs(found.sum()) - _SLACK)) / (1 + NUM_FLIPS))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return the adjusted p-values, in the same order: the k-th smallest of m is multiplied by m - k + 1."""
    adjusted = [1.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(np.argsort(np.array(p_values), kind="stable").tolist()):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted
