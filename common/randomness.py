"""Counter-based draws: every random number is a pure function of (seed, position, purpose).

Law: nothing here keeps state, so a draft that is repeated, re-ordered, batched or taken over by another
worker meets the same numbers again and gets the same answer (docs/method.md, "everything is a function of
the seed"). The generator is Philox-4x64 (Salmon et al., SC 2011), whose stream numpy keeps stable.
"""

from enum import IntEnum
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

FloatArray: TypeAlias = npt.NDArray[np.float64]

MAX_SEED = 2**64 - 1


class Purpose(IntEnum):
    """What a number is drawn for; two purposes at one position are independent."""

    DRAFT = 0  # the edge draws the draft token
    ACCEPT = 1  # the worker accepts or rejects it
    RESAMPLE = 2  # the worker draws from the residual
    COUPLING = 3  # both ends perturb log-probabilities with the same Gumbel noise
    UPLINK = 4  # Rand-HLM tosses its coin
    PERTURB = 5  # temperature perturbation: temperatures and votes


def uniforms(seed: int, position: int, purpose: Purpose, count: int) -> FloatArray:
    """`count` independent numbers in the open interval (0, 1) for one position and purpose.

    A longer request begins with the numbers of a shorter one. `seed` is 0 .. 2^64 - 1, `position` the
    token's index in the whole sequence (prompt included).
    """
    # 52 bits and a half: with 53 the largest would round to 1
    raw = _generator(seed, position, purpose).random_raw(count)
    return ((raw >> np.uint64(12)).astype(np.float64) + 0.5) * 2.0**-52


def uniform(seed: int, position: int, purpose: Purpose) -> float:
    """One number in (0, 1); the first of `uniforms`."""
    raw = int(_generator(seed, position, purpose).random_raw())
    return ((raw >> 12) + 0.5) * 2.0**-52


def gumbel_noise(seed: int, position: int, vocab_size: int) -> FloatArray:
    """Standard Gumbel noise [vocab_size], shared by both ends (Daliri, Musco, Suresh, arXiv 2408.07978)."""
    return -np.log(-np.log(uniforms(seed, position, Purpose.COUPLING, vocab_size)))


def _generator(seed: int, position: int, purpose: Purpose) -> np.random.Philox:
    """Words of 64 bits, the lowest first: numpy takes twice as long to cut large integers up itself."""
    key = np.array([seed, int(purpose)], np.uint64)
    return np.random.Philox(key=key, counter=np.array([0, position, 0, 0], np.uint64))
