"""Counter-based draws: every random number is a pure function of (seed, position, purpose).

Law: nothing here keeps state, so a draft that is repeated, reordered, batched or taken over by another worker
gets the same numbers and therefore the same answer (docs/method.md). The generator is Philox-4x64-10 (Salmon
et al., SC 2011), whose stream numpy keeps stable.

A single number is computed here in plain integers. Creating a numpy generator for it takes three to four
times as long, and a worker draws one for every token it verifies.
"""

import math
from enum import IntEnum
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

FloatArray: TypeAlias = npt.NDArray[np.float64]

MAX_SEED = 2**64 - 1

_NUM_ROUNDS = 10
_MULTIPLIERS = 0xD2E7470EE14C6C93, 0xCA5A826395121157
_KEY_STEPS = 0x9E3779B97F4A7C15, 0xBB67AE8584CAA73B


class Purpose(IntEnum):
    """What a number is drawn for. Numbers for different purposes at one position are independent."""

    DRAFT = 0  # the edge draws the draft token
    ACCEPT = 1  # the worker accepts or rejects it
    RESAMPLE = 2  # the worker draws from the residual
    COUPLING = 3  # both ends perturb log-probabilities with the same Gumbel noise
    UPLINK = 4  # Rand-HLM tosses its coin
    PERTURB = 5  # temperature perturbation: temperatures and votes


def uniforms(seed: int, position: int, purpose: Purpose, count: int) -> FloatArray:
    """`count` independent numbers in the open interval (0, 1) for one position and purpose.

    A longer request begins with the numbers of a shorter one. `seed` is 0 to 2^64 - 1; `position` is the
    token's index in the whole sequence, prompt included.
    """
    return _unit(_generator(seed, position, purpose).random_raw(count))


def uniform(seed: int, position: int, purpose: Purpose) -> float:
    """One number in (0, 1): the first of `uniforms`."""
    return ((_word(seed, position, purpose, 0) >> 12) + 0.5) * 2.0**-52


def gumbel_noise(seed: int, position: int, vocab_size: int) -> FloatArray:
    """Standard Gumbel noise [vocab_size], shared by both ends (Daliri, Musco, Suresh, arXiv 2408.07978)."""
    return _gumbel(_unit(coupling_words(seed, position, vocab_size)))


def gumbel_noise_at(seed: int, position: int, ids: npt.NDArray[np.int64]) -> FloatArray:
    """The entries of `gumbel_noise` at a few ids, in their order, without the others."""
    words = [_word(seed, position, Purpose.COUPLING, id_) for id_ in ids.tolist()]
    return _gumbel(_unit(np.array(words, np.uint64)))


def coupling_words(seed: int, position: int, vocab_size: int) -> npt.NDArray[np.uint64]:
    """The random words behind `gumbel_noise`, which increases with them."""
    return _generator(seed, position, Purpose.COUPLING).random_raw(vocab_size)


def gumbel_of(words: npt.NDArray[np.uint64]) -> FloatArray:
    """The noise that some of `coupling_words` stand for."""
    return _gumbel(_unit(words))


def least_word(noise: float) -> int:
    """A word below every word that stands for at least `noise`, or a little below."""
    return max(0, int(math.exp(-math.exp(min(700.0, -noise))) * 2.0**52) - 4) << 12


def _unit(words: npt.NDArray[np.uint64]) -> FloatArray:
    # 52 bits plus a half: with 53 bits the largest number would round to 1
    return ((words >> np.uint64(12)).astype(np.float64) + 0.5) * 2.0**-52


def _gumbel(numbers: FloatArray) -> FloatArray:
    return -np.log(-np.log(numbers))


def _word(seed: int, position: int, purpose: Purpose, index: int) -> int:
    """Word `index` of `_generator`, whose counter gives four words at a time, from 1 on."""
    a, b, c, d = 1 + index // 4, position, 0, 0
    key, other_key = seed, int(purpose)
    for _ in range(_NUM_ROUNDS):
        product, other = _MULTIPLIERS[0] * a, _MULTIPLIERS[1] * c
        a, b, c, d = (
            other >> 64 ^ b ^ key,
            other & MAX_SEED,
            product >> 64 ^ d ^ other_key,
            product & MAX_SEED,
        )
        key, other_key = key + _KEY_STEPS[0] & MAX_SEED, other_key + _KEY_STEPS[1] & MAX_SEED
    return (a, b, c, d)[index % 4]


def _generator(seed: int, position: int, purpose: Purpose) -> np.random.Philox:
    """Key and counter are arrays of 64-bit words: numpy takes twice as long to split large integers."""
    key = np.array([seed, int(purpose)], np.uint64)
    return np.random.Philox(key=key, counter=np.array([0, position, 0, 0], np.uint64))
