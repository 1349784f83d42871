"""How uncertain the draft model is of the token it drew: one function per estimator, from 0 (certain) to 1.

Each takes the raw logits [vocab_size], or the `Head` that was found in them, and the draft token. They only
decide when to ask the target model: whether the text is exact never depends on them. Rows longer than `SMALL`
(`edge_agent.policy.head`) are summed in float32, within `TOLERANCE`.
"""

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from common.sampling.randomness import FloatArray, Purpose, uniforms
from edge_agent.policy.head import Head, Logits
from edge_agent.policy.normalisers import Temperatures, normalisers
from edge_agent.policy.sums import total, weighted

Estimator: TypeAlias = Callable[[Logits, int, int, int], float]
HeadEstimator: TypeAlias = Callable[[Logits | Head, int, int, int], float]

DEFAULT_ESTIMATOR = "perturbation-mean"
NUM_TEMPERATURES = 20
MIN_TEMPERATURE = 0.05
MAX_TEMPERATURE = 2.0
TOLERANCE = 0.01  # of perturbation_mean: where its bounds are further away, it sums every id
CACHED = 1 << 16  # numbers at once: few enough for a core's cache, many enough to be worth a call

_STEPS = (np.arange(NUM_TEMPERATURES) + 0.5) / NUM_TEMPERATURES
GRID = MIN_TEMPERATURE + (MAX_TEMPERATURE - MIN_TEMPERATURE) * _STEPS
_PREPARED = Temperatures.of(GRID)


def token_probs_at(
    logits: Logits, token: int, temperatures: npt.NDArray[np.floating]
) -> npt.NDArray[np.float32]:
    """softmax(logits / theta)[token] for each temperature theta above 0: shape [len(temperatures)]."""
    shifted = (logits - logits.max()).astype(np.float32)
    inverse = (1.0 / temperatures).astype(np.float32)
    normalisers = np.empty_like(inverse)
    step = max(1, CACHED // len(shifted))
    for start in range(0, len(inverse), step):
        rows = slice(start, start + step)
        weights = np.multiply.outer(inverse[rows], shifted)
        normalisers[rows] = np.exp(weights, out=weights).sum(axis=1)
    return np.exp(shifted[token] * inverse) / normalisers


def perturbation_vote(logits: Logits | Head, token: int, seed: int, position: int) -> float:
    """The papers' temperature perturbation (arXiv 2412.12687): the share of 20 redraws that differ.

    Each redraw has its own temperature, uniform in [0.05, 2]. A redraw differs from `token` with probability
    1 - softmax(logits / theta)[token], so a coin with that probability has exactly the redraw's law.
    """
    numbers = uniforms(seed, position, Purpose.PERTURB, 2 * NUM_TEMPERATURES)
    temperatures = MIN_TEMPERATURE + (MAX_TEMPERATURE - MIN_TEMPERATURE) * numbers[:NUM_TEMPERATURES]
    coins, head = numbers[NUM_TEMPERATURES:], Head.of(logits)
    if not head.is_whole:
        highest, _, lowest = token_probs_between(head, token, Temperatures.of(temperatures))
        certain = coins >= highest
        if (certain == (coins >= lowest)).all():
            return float(np.mean(certain))
    return float(np.mean(coins >= token_probs_at(head.logits, token, temperatures)))


def perturbation_mean(logits: Logits | Head, token: int, seed: int = 0, position: int = 0) -> float:
    """What `perturbation_vote` estimates, without its noise: the mean over a grid of temperatures.

    Within `TOLERANCE` of the mean over all ids; rows up to `SMALL` have that mean itself.
    """
    head = Head.of(logits)
    if not head.is_whole:
        high, mean, low = token_probs_between(head, token, _PREPARED).mean(axis=1).tolist()
        if max(high - mean, mean - low) <= TOLERANCE:
            return 1.0 - mean
    return float(1.0 - np.mean(token_probs_at(head.logits, token, GRID)))


def token_probs_between(head: Head, token: int, temperatures: Temperatures) -> FloatArray:
    """softmax(logits / theta)[token] for each theta: upper bound, estimate, lower bound, [3, n]."""
    own = np.exp((float(head.logits[token]) - head.largest) * temperatures.inverse)
    return own / normalisers(head, temperatures)


def entropy(logits: Logits | Head, token: int = 0, seed: int = 0, position: int = 0) -> float:
    """Shannon entropy of the distribution, divided by that of the uniform one."""
    head = Head.of(logits)
    if head.is_whole:
        probs = _probs(head.logits)
        positive = probs[probs > 0]
        return float(-(positive * np.log(positive)).sum() / np.log(len(probs)))
    weights = np.exp(np.subtract(head.logits, head.largest, dtype=np.float32))
    all_mass = total(weights)
    mean_gap = head.largest - weighted(head.logits, weights) / all_mass
    return float((np.log(all_mass) + mean_gap) / np.log(len(weights)))


def doubt(logits: Logits | Head, token: int = 0, seed: int = 0, position: int = 0) -> float:
    """1 - the largest probability."""
    head = Head.of(logits)
    if head.is_whole:
        return float(1.0 - _probs(head.logits).max())
    return 1.0 - 1.0 / _mass(head)


def margin(logits: Logits | Head, token: int = 0, seed: int = 0, position: int = 0) -> float:
    """1 - (largest - second largest probability)."""
    head = Head.of(logits)
    if head.is_whole:
        second, first = np.partition(_probs(head.logits), -2)[-2:]
        return float(1.0 - (first - second))
    if len(head.values) == 1:
        return 0.0  # all others are ruled out
    second = float(np.partition(head.values, -2)[-2]) - head.largest
    return float(1.0 - (1.0 - np.exp(second)) / _mass(head))


def _mass(head: Head) -> float:
    """The sum over all ids of exp(logit - largest)."""
    return total(np.exp(np.subtract(head.logits, head.largest, dtype=np.float32)))


def _probs(logits: Logits) -> FloatArray:
    weights = np.exp((logits - logits.max()).astype(np.float64))
    return weights / weights.sum()


ESTIMATORS: dict[str, HeadEstimator] = {
    "perturbation-mean": perturbation_mean,
    "perturbation-vote": perturbation_vote,
    "entropy": entropy,
    "max-probability": doubt,
    "margin": margin,
}


def estimate(estimator: Estimator, head: Head, token: int, seed: int, position: int) -> float:
    """What an estimator returns. Those of this module take the head, which is found once; others a row."""
    known = next((one for one in ESTIMATORS.values() if one is estimator), None)
    return known(head, token, seed, position) if known else estimator(head.logits, token, seed, position)
