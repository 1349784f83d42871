"""Softmax's denominator at many temperatures at once, between two bounds. Pure.

With d_i = largest logit - logit of id i, the denominator at temperature theta is the sum over i of
exp(-d_i / theta). The listed ids of a `Head` enter exactly. Let f(x) be the sum over the others of
exp(-d_i x / 2), so x = 2 / theta. One exponential per id, w_i = exp(-d_i / 2), gives f(1) = sum w,
f(2) = sum w^2 and f'(1) = -sum w d / 2.

Law: log f is convex, and its slope nowhere exceeds -(largest - floor) / 2. So for every x >= 1 the tangent at
1, the chord from 1 to 2 and that slope give a lower and an upper bound (docs/method.md, section 3). The
estimate, a parabola through the three numbers, lies between them.
"""

from dataclasses import dataclass

import numpy as np

from common.sampling.randomness import FloatArray
from edge_agent.policy.head import Head
from edge_agent.policy.sums import product, total, weighted

HOTTEST = 2.0  # no temperature is higher


@dataclass(frozen=True, slots=True, eq=False)
class Normalisers:
    """For each temperature [n] the denominator: `low` <= exact <= `high`, and an estimate between them."""

    low: FloatArray
    estimate: FloatArray
    high: FloatArray


def normalisers(head: Head, temperatures: FloatArray) -> Normalisers:
    """The denominators of softmax(logits / theta) for each theta from above 0 to `HOTTEST`."""
    gaps = head.values - head.largest
    listed = np.exp(np.multiply.outer(1.0 / temperatures, gaps)).sum(axis=1)
    if head.is_whole:
        return Normalisers(listed, listed, listed)
    low, estimate, high = _unlisted(head, HOTTEST / temperatures)
    return Normalisers(listed + low, listed + estimate, listed + high)


def _unlisted(head: Head, x: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """f(x) for each x >= 1: lower bound, estimate, upper bound."""
    weights = np.subtract(head.logits, head.largest, dtype=np.float32)
    weights *= np.float32(1.0 / HOTTEST)
    np.exp(weights, out=weights)
    weights[head.ids] = 0.0
    first, second = total(weights), product(weights, weights)
    if second <= 0.0:  # all so small that their squares are 0
        return np.zeros_like(x), np.full_like(x, first), np.full_like(x, first)
    slope = (weighted(head.logits, weights) / first - head.largest) / HOTTEST
    steepest_end = (head.floor - head.largest) / HOTTEST
    chord = min(float(np.log(second / first)), steepest_end)
    slope = min(slope, chord)
    beyond = min(2.0 * chord - slope, steepest_end)
    inside, outside = np.minimum(x, 2.0) - 1.0, np.maximum(x, 2.0) - 2.0
    tangent = np.maximum(slope * inside, chord - steepest_end * (1.0 - inside))
    parabola = slope * inside + (chord - slope) * inside**2
    logs = (
        tangent + chord * outside,
        parabola + beyond * outside,
        chord * inside + steepest_end * outside,
    )
    low, estimate, high = (first * np.exp(each) for each in logs)
    return low, estimate, high
