"""Sums over a whole vocabulary, in float32 and fast. Pure.

Law: one thread. BLAS shares a scalar product of more than 10,000 numbers among its threads, which takes
longer and disturbs the draft model's own.
"""

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Weights: TypeAlias = npt.NDArray[np.float32]

_ROW = 4096


def total(weights: Weights) -> float:
    """The sum of numbers that are not negative, to 5 digits."""
    rows, rest = _rows(weights)
    return float(rows.sum(axis=0).sum(dtype=np.float64)) + float(rest.sum(dtype=np.float64))


def product(left: Weights, right: Weights) -> float:
    """The scalar product, to 5 digits where all terms have one sign."""
    (rows, rest), (others, other_rest) = _rows(left), _rows(right)
    parts = np.matmul(rows[:, np.newaxis, :], others[:, :, np.newaxis])
    return float(parts.sum(dtype=np.float64)) + float(rest @ other_rest)


def weighted(logits: npt.NDArray[np.floating], weights: Weights) -> float:
    """The sum of logit times weight, where a weight of 0 rules a logit of -inf out."""
    numbers = logits.astype(np.float32, copy=False)
    with np.errstate(invalid="ignore"):
        found = product(numbers, weights)
    if np.isnan(found):  # 0 times infinity
        found = product(np.where(weights > 0.0, numbers, np.float32(0.0)), weights)
    return found


def _rows(weights: Weights) -> tuple[Weights, Weights]:
    end = len(weights) // _ROW * _ROW
    return weights[:end].reshape(-1, _ROW), weights[end:]
