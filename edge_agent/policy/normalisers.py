"""Softmax's denominator at many temperatures at once, between two bounds. Pure.

With d_i = largest logit - logit of id i, the denominator at temperature theta is the sum over i of
exp(-d_i / theta). The listed ids of a `Head` enter exactly. Let f(x) be the sum over the others of
exp(-d_i x / 2), so x = 2 / theta. One exponential per id, w_i = exp(-d_i / 2), gives f(1) = sum w,
f(2) = sum w^2 and f'(1) = -sum w d / 2.

Law: log f is convex, and its slope nowhere exceeds -(largest - floor) / 2. So for every x >= 1 the tangent at
1, the chord from 1 to 2 and that slope give a lower and an upper bound (docs/method.md, section 3). The
estimate, a parabola through the three numbers, lies between them. All three are linear in what depends on x.
"""

import math
from dataclasses import dataclass

import numpy as np

from common.sampling.randomness import FloatArray
from edge_agent.policy.head import Head
from edge_agent.policy.sums import product, total, weighted

HOTTEST = 2.0  # no temperature is higher
LARGE = 40.0  # the sum of exp(logit) over a vocabulary is far from the limits of float32


@dataclass(frozen=True, slots=True, eq=False)
class Temperatures:
    """Temperatures [n] from above 0 to `HOTTEST`, as `1 / theta`, and the terms of the bounds [3, n]."""

    inverse: FloatArray
    terms: FloatArray

    @classmethod
    def of(cls, temperatures: FloatArray) -> "Temperatures":
        """Prepare; a fixed grid once and for all."""
        x = HOTTEST / temperatures
        inside, outside = np.minimum(x, 2.0) - 1.0, np.maximum(x, 2.0) - 2.0
        return cls(1.0 / temperatures, np.array([inside, inside**2, outside]))


def normalisers(head: Head, temperatures: Temperatures) -> FloatArray:
    """Softmax's denominators [3, n]: of each theta a lower bound, an estimate and an upper bound."""
    gaps = head.values - head.largest
    listed = np.exp(np.multiply.outer(temperatures.inverse, gaps)).sum(axis=1)
    return listed + _unlisted(head, temperatures.terms)


def _unlisted(head: Head, terms: FloatArray) -> FloatArray:
    """f(x) for each x >= 1: lower bound, estimate, upper bound."""
    shift = head.largest if abs(head.largest) > LARGE else 0.0  # smaller ones need none, which saves a pass
    weights = np.multiply(head.logits, 1.0 / HOTTEST, dtype=np.float32)
    if shift:
        weights -= np.float32(shift / HOTTEST)
    np.exp(weights, out=weights)
    weights[head.ids] = 0.0
    scale = math.exp((shift - head.largest) / HOTTEST)
    first, second = scale * total(weights), scale**2 * product(weights, weights)
    if second <= 0.0:  # none, or all so small that their squares are 0
        return np.array([[0.0], [first], [first]])
    steepest_end = (head.floor - head.largest) / HOTTEST
    chord = min(math.log(second / first), steepest_end)
    slope = min((scale * weighted(head.logits, weights) / first - head.largest) / HOTTEST, chord)
    beyond = min(2.0 * chord - slope, steepest_end)
    bounds = [[slope, 0.0, chord], [slope, chord - slope, beyond], [chord, 0.0, steepest_end]]
    return first * np.exp(np.array(bounds) @ terms)
