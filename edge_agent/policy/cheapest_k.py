"""How many ids of a distribution are worth their bytes. Pure.

Law 1 at any k: k is a function of the probabilities alone, never of the token that is drawn or of anything
that depends on it. Then q is one fixed distribution for each prefix, d is drawn from it, and the verified
text has the target's distribution. (CU-HLM online chooses k by the uncertainty of the drawn token.)

The mass of x that q leaves out makes a rejection more likely by at most that much (docs/method.md, section
3). So the time that k costs, in units of a rejection, is at most

    bytes(k) * byte_price + (mass of x outside its k largest)
"""

from functools import cache
from math import lgamma, log

import numpy as np

from common.sampling.distribution import top_ids
from common.sampling.randomness import FloatArray

MAX_CHOSEN = 64
DEFAULT_BYTE_PRICE = 1e-4  # a byte at 1 Mbit/s over a rejection of 80 ms


def cheapest_num_ids(
    probs: FloatArray, total: int, byte_price: float, *, vocab_size: int | None = None
) -> int:
    """The k from 1 to 64 that costs least; the smallest of equals.

    `probs` is in any order, of all ids or of those above 0, or of the 64 largest, among `vocab_size` ids.
    `total` is the resolution of the counts, and `byte_price` is the time of a byte over that of a rejection.
    """
    largest = probs[top_ids(probs, MAX_CHOSEN)]
    outside = np.maximum(0.0, 1.0 - np.cumsum(largest))
    return (
        int(np.argmin(message_bytes(vocab_size or len(probs), total)[: len(largest)] * byte_price + outside))
        + 1
    )


@cache
def message_bytes(vocab_size: int, total: int) -> FloatArray:
    """Bytes of k ids with counts, for k = 1 .. 64: log2 of how many there are. Shape [min(64, |V|)].

    k of |V| ids, and total as a sum of k counts of at least 1: C(|V|, k) * C(total - 1, k - 1).
    """
    ks = range(1, min(MAX_CHOSEN, vocab_size, total) + 1)
    bits = [(_log_choose(vocab_size, k) + _log_choose(total - 1, k - 1)) / log(2.0) for k in ks]
    return np.array(bits) / 8.0


def _log_choose(n: int, k: int) -> float:
    return lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1)
