"""What a server is asked about one position, what it answers, and what cannot be asked exactly. Pure.

Law 3: the seed of a server's sample is a function of the session's seed, the position and the round, so a
question that is asked again, elsewhere or after a restart of the server has the same answer.
"""

from dataclasses import dataclass

from common.sampling.distribution import Sampling
from common.sampling.randomness import coupling_words

MIN_TEMPERATURE = 0.01  # vLLM raises what lies between 0 and this
MAX_TEMPERATURE = 2.0  # vLLM refuses more


@dataclass(frozen=True, slots=True)
class Question:
    """The token that follows the first `length` tokens of a sequence, under `sampling`.

    Asks for the probabilities of `ids` after temperature and filters, and for `num_samples` samples. The
    logits of `avoided` are lowered so far that samples rarely are one of them.
    """

    length: int
    sampling: Sampling
    seed: int
    ids: tuple[int, ...] = ()
    num_samples: int = 1
    avoided: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Reply:
    """The samples, and the probabilities of the ids that were asked for, in their order."""

    samples: tuple[int, ...]
    probs: tuple[float, ...] = ()


def server_seed(seed: int, position: int, round_: int) -> int:
    """The seed of the server's samples for a position: 62 bits, so that a few may be added to it.

    The words are those of the coupling noise, which this engine has no other use for.
    """
    return int(coupling_words(seed, position, round_ + 1)[round_]) >> 2


def refused_sampling(sampling: Sampling) -> str | None:
    """Why a server of vLLM cannot follow these sampling settings exactly; None when it can."""
    if 0.0 < sampling.temperature < MIN_TEMPERATURE:
        return f"a temperature between 0 and {MIN_TEMPERATURE:g}; use 0, or {MIN_TEMPERATURE:g} and more"
    if sampling.temperature > MAX_TEMPERATURE:
        return f"a temperature above {MAX_TEMPERATURE:g}; lower it"
    if sampling.min_p > 0.0 and sampling.top_p < 1.0:
        return "min_p together with top_p; set only one"  # vLLM has another order
    if sampling.presence_penalty or sampling.frequency_penalty:
        return "presence_penalty or frequency_penalty; use repetition_penalty"  # the prompt would not count
    return None
