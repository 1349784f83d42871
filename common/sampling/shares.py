"""One byte per probability, each a share of what the ones before it leave. Pure.

Law: the decoded probabilities are never negative and sum to at most 1, whatever the bytes are. Of k
probabilities, largest first, the rounding errors sum to at most about 0.0062 sqrt(k); in practice to 0.001.

A share s is written as round(255 asin(sqrt(s)) / (pi / 2)), so steps are finest near 0 and 1, where the
shares of language models lie. Each share is taken of what the decoded probabilities before it leave. So a
rounding error does not carry over to the next.
"""

import math

import numpy as np
import numpy.typing as npt

from common.sampling.randomness import FloatArray

MAX_CODE = 255

_SHARES = np.sin(np.arange(MAX_CODE + 1) * (math.pi / 2 / MAX_CODE)) ** 2
_SHARES[MAX_CODE] = 1.0


def encode_shares(probs: FloatArray) -> npt.NDArray[np.uint8]:
    """One byte for each of some probabilities [k], which sum to at most 1; best with the largest first."""
    shares: list[float] = _SHARES.tolist()
    codes: list[int] = []
    rest = 1.0
    for prob in probs.tolist():
        share = min(1.0, prob / rest) if rest > 0.0 else 0.0
        code = round(math.asin(math.sqrt(share)) * (2 * MAX_CODE / math.pi))
        rest *= 1.0 - shares[code]
        codes.append(code)
    return np.array(codes, np.uint8)


def decode_shares(codes: npt.NDArray[np.uint8]) -> FloatArray:
    """The rounded probabilities [k] that `encode_shares` wrote."""
    shares = _SHARES[codes]
    rests = np.cumprod(1.0 - shares)
    return shares * np.concatenate([[1.0], rests[:-1]])
