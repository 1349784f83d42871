"""What CU-HLM's message changes in the law of a verified token, computed by summing over all tokens. Pure.

CU-HLM draws d from x, and after a rejection the worker draws from norm((y - x^)+) instead of norm((y - x)+).
A rejection has probability beta, so beta * TV of these two is the probability by which the token is biased.
"""

import numpy as np

from cloud_worker.session.verification import residual
from common.sampling.distribution import IntArray, TopK, top_ids
from common.sampling.randomness import FloatArray
from common.sampling.shares import encode_shares


def rebuilt(probs: FloatArray, k: int) -> tuple[FloatArray, FloatArray]:
    """Return x^ [|V|] as computed from the k largest of `probs` [|V|], and as it arrives, rounded."""
    ids = _top_ids(probs, k)
    num_rest = len(probs) - len(ids)
    exact = np.full(len(probs), max(0.0, 1.0 - float(probs[ids].sum())) / max(1, num_rest))
    exact[ids] = probs[ids]
    return exact, TopK(ids, encode_shares(probs[ids]), 1.0).dense(len(probs))


def _top_ids(probs: FloatArray, k: int) -> IntArray:
    """`top_ids`, where most probabilities may be 0, as after top-k: so many equals make a selection slow."""
    support = np.flatnonzero(probs)
    found = support[top_ids(probs[support], k)]
    zeros = np.flatnonzero(probs[: k + len(support)] == 0.0)  # ties: the lowest ids
    return np.concatenate([found, zeros[: k - len(found)]])


def bias(probs: FloatArray, target_probs: FloatArray, sent: FloatArray, token: int) -> float:
    """Return the probability with which the correction of `token` is one that x would not have given."""
    rejection = max(0.0, 1.0 - float(target_probs[token]) / float(probs[token]))
    if rejection == 0.0:
        return 0.0
    return rejection * distance(residual(target_probs, sent), residual(target_probs, probs))


def truncation_costs(
    probs: FloatArray, target_probs: FloatArray, token: int, k: int
) -> tuple[float, float, float]:
    """Return TV(x, x^), the TV that rounding adds to x^, and the bias of a verified `token`."""
    exact, sent = rebuilt(probs, k)
    return distance(probs, exact), distance(exact, sent), bias(probs, target_probs, sent, token)


def distance(first: FloatArray, second: FloatArray) -> float:
    """Return the total variation distance TV."""
    return float(np.abs(first - second).sum() / 2)
