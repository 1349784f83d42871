"""How uncertain the draft model is of the token it drew: one function per estimator, from 0 (certain) to 1.

Each takes the raw logits [vocab_size] and the draft token. They only decide when to ask the target model:
whether the text is exact never depends on them.
"""

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from common.sampling.randomness import Purpose, uniforms

Logits: TypeAlias = npt.NDArray[np.floating]
Estimator: TypeAlias = Callable[[Logits, int, int, int], float]

NUM_TEMPERATURES = 20
MIN_TEMPERATURE = 0.05
MAX_TEMPERATURE = 2.0
CACHED = 1 << 16  # numbers at once: few enough for a core's cache, many enough to be worth a call


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


def perturbation_vote(logits: Logits, token: int, seed: int, position: int) -> float:
    """The papers' temperature perturbation (arXiv 2412.12687): the share of 20 redraws that differ.

    Each redraw has its own temperature, uniform in [0.05, 2]. A redraw differs from `token` with probability
    1 - softmax(logits / theta)[token], so a coin with that probability has exactly the redraw's law.
    """
    numbers = uniforms(seed, position, Purpose.PERTURB, 2 * NUM_TEMPERATURES)
    temperatures = MIN_TEMPERATURE + (MAX_TEMPERATURE - MIN_TEMPERATURE) * numbers[:NUM_TEMPERATURES]
    return float(np.mean(numbers[NUM_TEMPERATURES:] >= token_probs_at(logits, token, temperatures)))


def perturbation_mean(logits: Logits, token: int, seed: int = 0, position: int = 0) -> float:
    """What `perturbation_vote` estimates, without its noise: the mean over a grid of temperatures."""
    steps = (np.arange(NUM_TEMPERATURES) + 0.5) / NUM_TEMPERATURES
    temperatures = MIN_TEMPERATURE + (MAX_TEMPERATURE - MIN_TEMPERATURE) * steps
    return float(1.0 - np.mean(token_probs_at(logits, token, temperatures)))


def entropy(logits: Logits, token: int = 0, seed: int = 0, position: int = 0) -> float:
    """Shannon entropy of the distribution, divided by that of the uniform one."""
    probs = _probs(logits)
    positive = probs[probs > 0]
    return float(-(positive * np.log(positive)).sum() / np.log(len(probs)))


def doubt(logits: Logits, token: int = 0, seed: int = 0, position: int = 0) -> float:
    """1 - the largest probability."""
    return float(1.0 - _probs(logits).max())


def margin(logits: Logits, token: int = 0, seed: int = 0, position: int = 0) -> float:
    """1 - (largest - second largest probability)."""
    second, first = np.partition(_probs(logits), -2)[-2:]
    return float(1.0 - (first - second))


def _probs(logits: Logits) -> npt.NDArray[np.float64]:
    weights = np.exp((logits - logits.max()).astype(np.float64))
    return weights / weights.sum()


ESTIMATORS: dict[str, Estimator] = {
    "perturbation-mean": perturbation_mean,
    "perturbation-vote": perturbation_vote,
    "entropy": entropy,
    "max-probability": doubt,
    "margin": margin,
}
