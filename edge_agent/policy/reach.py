"""The part of the draft model's distribution that a draw can reach, and nothing of the rest. Pure.

Law 1 holds because every form draws from what is listed here and sends nothing else: what is left out has
probability 0 in what is sent. Sampling with top-k or top-p leaves out the rest by itself, a truncated form
keeps its most probable ids, and a row of float16 weights rounds the least probable ones to 0. So a vocabulary
of 151,936 costs two passes, or three where the mass of all ids is needed. Rows of up to `SMALL` ids are
listed whole, with the numbers of `common.sampling.distribution.warp`.
"""

import math
from dataclasses import dataclass

import numpy as np

from common.sampling.distribution import Dense, IntArray, Sampling, draw, warp
from common.sampling.randomness import FloatArray
from edge_agent.policy.head import Head
from edge_agent.policy.sums import Weights, total

FLOAT16_ZERO = 2.0**-25  # what is not larger rounds to 0
_ROW = 64
_COLDEST = 1e-6
_LAST = 1.0 - 2.0**-40  # of a row: rounding must not lead out of it
_SLACK = 1.001  # for the rounding of a logit and of the mass: list a few ids too many, never too few


@dataclass(frozen=True, slots=True, eq=False)
class Reach:
    """Distinct `ids`, ascending, and their probabilities `probs`, which may sum to less than 1."""

    ids: IntArray
    probs: FloatArray

    def draw(self, uniform: float) -> tuple[int, float]:
        """Inverse of the cumulative distribution at `uniform` in (0, 1): the token and its probability."""
        index = draw(self.probs, uniform)
        return int(self.ids[index]), float(self.probs[index])


def truncates(sampling: Sampling, vocab_size: int) -> bool:
    """Whether the sampling itself leaves ids out."""
    return 0 < sampling.top_k < vocab_size or sampling.top_p < 1.0


def whole(head: Head, sampling: Sampling) -> Reach:
    """Every id."""
    return Reach(np.arange(len(head.logits)), warp(head.logits, sampling))


def kept(head: Head, sampling: Sampling) -> Reach:
    """What top-k and top-p keep, which has all the mass."""
    count = sampling.top_k if 0 < sampling.top_k < len(head.logits) else 0
    ids = head.top(count) if count else head.ids
    weights = _weights(head, ids, sampling.temperature)
    if sampling.top_p < 1.0:
        all_mass = float(weights.sum()) if count else mass(head, sampling.temperature)
        order = np.argsort(-weights, kind="stable")
        reached = np.cumsum(weights[order] / all_mass)
        if not count and reached[-1] < sampling.top_p:  # the nucleus is larger than the head
            return _above_zero(warp(head.logits, sampling))
        nucleus = np.sort(order[: int(np.searchsorted(reached, sampling.top_p, side="left")) + 1])
        ids, weights = ids[nucleus], weights[nucleus]
    return Reach(ids, weights / weights.sum())


def most_probable(head: Head, temperature: float, count: int, *, exact: bool) -> Reach:
    """The `count` most probable ids; with their own probabilities if `exact`, else in proportion."""
    ids = head.top(count)
    weights = _weights(head, ids, temperature)
    return Reach(ids, weights / (mass(head, temperature) if exact else weights.sum()))


def representable(head: Head, temperature: float) -> Reach:
    """The ids whose probability is not 0 in float16, and perhaps a few more."""
    all_mass = mass(head, temperature)
    reach = temperature * max(0.0, -math.log(FLOAT16_ZERO * all_mass)) * _SLACK
    ids = head.at_least(head.largest - reach - 1e-6 * abs(head.largest))
    return Reach(ids, _weights(head, ids, temperature) / all_mass)


def rounded(reach: Reach, vocab_size: int) -> Dense:
    """The float16 weights of a row that has nothing but what is listed; draws use the rounded weights."""
    weights = reach.probs.astype(np.float16)
    above_zero = np.flatnonzero(weights)
    return Dense(weights[above_zero], reach.ids[above_zero], vocab_size)


def draw_any(head: Head, temperature: float, uniform: float) -> tuple[int, float]:
    """A draw from all ids in order, and the token's probability, both to 5 digits of the weights.

    A running sum over all ids would take longer than their exponentials. So the sums of rows of ids tell
    which row the draw falls into, and a running sum within it the id.
    """
    weights = _all_weights(head, temperature)
    starts = np.arange(0, len(weights), _ROW)
    reached = np.cumsum(np.add.reduceat(weights, starts), dtype=np.float64)
    wanted = uniform * reached[-1]
    row = int(np.searchsorted(reached, wanted, side="right"))
    before = float(reached[row - 1]) if row else 0.0
    share = (wanted - before) / (float(reached[row]) - before)
    within = weights[starts[row] : starts[row] + _ROW].astype(np.float64)
    token = int(starts[row]) + draw(within, min(share, _LAST))
    return token, float(weights[token] / reached[-1])


def mass(head: Head, temperature: float) -> float:
    """The sum over all ids of exp((logit - largest) / temperature), to 5 digits."""
    return total(_all_weights(head, temperature))


def _all_weights(head: Head, temperature: float) -> Weights:
    if temperature < _COLDEST:  # its inverse is too large for float32
        gaps = (head.logits.astype(np.float64) - head.largest) / temperature
        return np.exp(gaps).astype(np.float32)
    weights = np.subtract(head.logits, head.largest, dtype=np.float32)
    weights *= np.float32(1.0 / temperature)
    return np.exp(weights, out=weights)


def _weights(head: Head, ids: IntArray, temperature: float) -> FloatArray:
    values = head.logits[ids].astype(np.float64)
    return np.exp((values - head.largest) / temperature)


def _above_zero(probs: FloatArray) -> Reach:
    ids = np.flatnonzero(probs)
    return Reach(ids, probs[ids])
