"""How many probabilities CU-HLM sends: the online rule of arXiv 2505.11788, eq. 26.

It is the least k whose truncation error, divided by a weight that follows from the expected rejection, is at
most theta.
"""

import numpy as np

from common.sampling.randomness import FloatArray
from edge_agent.policy.rejection_fit import PUBLISHED_FIT, Fit


def expected_rejection(uncertainty: float, fit: Fit = PUBLISHED_FIT) -> float:
    """beta_d = clip(a u + b, 0, 1), with the papers' linear fit or a calibration's."""
    return fit.rejection(uncertainty)


def truncation_errors(sorted_probs: FloatArray) -> FloatArray:
    """For k = 1 .. |V| - 1: sum over i > k of |x_(i) - x^_(i)|, with x^ the tail's mean. Shape [|V| - 1].

    `sorted_probs` [|V|] descends. Twice the mass by which the larger tail entries exceed the tail's mean is
    that sum, so prefix sums and one search give every k at once.
    """
    size = len(sorted_probs)
    prefix = np.concatenate([[0.0], np.cumsum(sorted_probs)])
    kept = np.arange(1, size)
    means = (prefix[-1] - prefix[kept]) / (size - kept)
    num_above = np.searchsorted(-sorted_probs, -means, side="left")  # entries larger than the tail's mean
    num_above = np.maximum(num_above, kept)
    return 2.0 * np.maximum(prefix[num_above] - prefix[kept] - means * (num_above - kept), 0.0)


def error_weight(draft_prob: float, rejection: float) -> float:
    """The denominator of eq. 26: (1 - x_d) l(-1) + x_d l(-beta_d), l(v) = ln(1 + e^v) (softplus, eta = 1)."""
    return float((1.0 - draft_prob) * np.log1p(np.exp(-1.0)) + draft_prob * np.log1p(np.exp(-rejection)))


def online_k(
    probs: FloatArray, draft_prob: float, uncertainty: float, *, theta: float, fit: Fit = PUBLISHED_FIT
) -> int:
    """k(t): the least k with truncation error / [(1 - x_d) l(-1) + x_d l(-beta_d)] <= theta.

    l is the softplus; `probs` [|V|] in any order.
    """
    weight = error_weight(draft_prob, expected_rejection(uncertainty, fit))
    errors = truncation_errors(np.sort(probs)[::-1])
    within = np.flatnonzero(errors <= theta * weight)
    return int(within[0]) + 1 if len(within) else len(probs)
