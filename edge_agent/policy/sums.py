"""Sums over a whole vocabulary, in float32 and fast. Pure.

Law: one thread. BLAS shares a scalar product of more than 10,000 numbers among its threads, which takes
longer and disturbs the draft model's own.
"""

import math
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Weights: TypeAlias = npt.NDArray[np.float32]

_ROW = 8192


def total(weights: Weights) -> float:
    """The sum of numbers that are not negative, to 5 digits."""
    end = len(weights) // _ROW * _ROW
    return float(weights[:end].reshape(-1, _ROW).sum(axis=0).sum() + weights[end:].sum())


def product(left: Weights, right: Weights) -> float:
    """The scalar product, to 5 digits where all terms have one sign."""
    end = len(left) // _ROW * _ROW
    parts = np.matmul(left[:end].reshape(-1, 1, _ROW), right[:end].reshape(-1, _ROW, 1))
    return float(parts.sum() + left[end:] @ right[end:])


def weighted(logits: npt.NDArray[np.floating], weights: Weights) -> float:
    """The sum of logit times weight, where a weight of 0 rules a logit of -inf out."""
    numbers = logits.astype(np.float32, copy=False)
    with np.errstate(invalid="ignore"):
        found = product(numbers, weights)
    if math.isnan(found):  # 0 times infinity
        found = product(np.where(weights > 0.0, numbers, np.float32(0.0)), weights)
    return found
