"""The draft token of `coupled`: argmax(log x + g), with the noise g that both ends share. Pure.

The noise of an id costs a thousand times as much as reading its logit, and only the largest sum counts. So it
is computed for the listed ids, and for those others whose random word is large enough to lift a logit at the
floor of the `Head` above the best sum so far.
"""

import numpy as np

from common.sampling.distribution import Sampling
from common.sampling.randomness import coupling_words, gumbel_noise, gumbel_noise_at, gumbel_of, least_word
from edge_agent.policy.head import Head
from edge_agent.policy.reach import Reach, kept, mass, truncates, whole

FEW = 128  # ids whose words are computed one by one, in the time of all words of a large vocabulary


def coupled_choice(head: Head, sampling: Sampling, seed: int, position: int) -> tuple[int, float]:
    """The token at `position`, and its probability. Not for greedy sampling, which needs no noise."""
    if head.is_whole:
        return _best(whole(head, sampling), seed, position, len(head.logits))
    if truncates(sampling, len(head.logits)):
        return _best(kept(head, sampling), seed, position, len(head.logits))
    temperature = sampling.temperature
    words = coupling_words(seed, position, len(head.logits))
    gaps = (head.values - head.largest) / temperature
    sums = gaps + gumbel_of(words[head.ids])
    index = int(np.argmax(sums))
    token, best, gap = int(head.ids[index]), float(sums[index]), float(gaps[index])
    lifted = np.flatnonzero(words >= np.uint64(least_word(best - (head.floor - head.largest) / temperature)))
    if len(lifted):
        gaps = (head.logits[lifted].astype(np.float64) - head.largest) / temperature
        sums = gaps + gumbel_of(words[lifted])
        index = int(np.argmax(sums))
        if (-sums[index], lifted[index]) < (-best, token):
            token, gap = int(lifted[index]), float(gaps[index])
    return token, float(np.exp(gap)) / mass(head, temperature)


def _best(reach: Reach, seed: int, position: int, vocab_size: int) -> tuple[int, float]:
    if len(reach.ids) <= FEW < vocab_size:
        noise = gumbel_noise_at(seed, position, reach.ids)
    else:
        noise = gumbel_noise(seed, position, vocab_size)[reach.ids]
    with np.errstate(divide="ignore"):
        index = int(np.argmax(np.log(reach.probs) + noise))
    return int(reach.ids[index]), float(reach.probs[index])
