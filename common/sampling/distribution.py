"""Next-token distributions: warping, truncation, quantisation, and drawing from exactly what is sent.

Law 1: a draft token is drawn from exactly the distribution that is sent. So each form below can draw from
itself, and both ends compute with the same numbers. The one exception is the CU-HLM baseline (`TopK`), whose
authors draw before they truncate.
"""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from common.sampling.randomness import FloatArray
from common.sampling.shares import decode_shares

IntArray: TypeAlias = npt.NDArray[np.int64]

LATTICE_TOTALS = (256, 65536)  # the two resolutions of the wire format: one or two bytes per count
LOG_STEPS_PER_OCTAVE = 12
ZERO_PROB_CODE = 255
NUCLEUS_HEAD = 4096  # ids in the first try for a nucleus


@dataclass(frozen=True, slots=True)
class Sampling:
    """How logits become probabilities. Temperature 0 is greedy; the other defaults turn each filter off.

    The penalties act on logits, before temperature (see `common.sampling.penalties`).
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0  # of the largest probability: what is less probable is dropped
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0

    @property
    def greedy(self) -> bool:
        """True when the most probable token gets all the mass."""
        return self.temperature == 0.0

    @property
    def has_penalties(self) -> bool:
        """True when logits depend on which tokens the text has, beyond what the model makes of them."""
        return self.repetition_penalty != 1.0 or bool(self.presence_penalty or self.frequency_penalty)


@dataclass(frozen=True, slots=True, eq=False)
class Lattice:
    """Truncated and quantised: distinct ids [k] with integer counts [k] of at least 1 that sum to a total.

    The probability of ids[i] is counts[i] / total; every other token has 0. The largest count comes first,
    equal counts by ascending id, so the set alone determines which token a uniform number draws. Verification
    with it is exact for any k and total (docs/method.md).
    """

    ids: IntArray
    counts: IntArray

    @property
    def total(self) -> int:
        """The resolution: one of LATTICE_TOTALS."""
        return int(self.counts.sum())

    def prob(self, token: int) -> float:
        """The probability of one token."""
        ids = self.ids.tolist()  # faster than a mask: most are short
        return int(self.counts[ids.index(token)]) / self.total if token in ids else 0.0

    def dense(self, vocab_size: int) -> FloatArray:
        """The whole distribution [vocab_size]."""
        probs = np.zeros(vocab_size)
        probs[self.ids] = self.counts / self.total
        return probs

    def draw(self, uniform: float) -> int:
        """The token at `uniform` in (0, 1) on the cumulative counts, in integer arithmetic."""
        index = np.searchsorted(np.cumsum(self.counts), int(uniform * self.total), side="right")
        return int(self.ids[index])


@dataclass(frozen=True, slots=True, eq=False)
class Dense:
    """Untruncated: float16 weights [vocab_size]; the distribution is the weights over their sum.

    A device gives the weights above 0 and their `ids`, ascending, so a token that stays local costs no whole
    row: `weights` puts it together, when it is sent. Without `ids`, `given` is the row.
    """

    given: npt.NDArray[np.float16]
    ids: IntArray | None = None
    vocab_size: int = 0

    @property
    def weights(self) -> npt.NDArray[np.float16]:
        """The whole row, as it is sent."""
        if self.ids is None:
            return self.given
        row = np.zeros(self.vocab_size, np.float16)
        row[self.ids] = self.given
        return row

    def prob(self, token: int) -> float:
        """The probability of one token."""
        if self.ids is None:
            return float(_float64_probs(self.given)[token])
        index = int(np.searchsorted(self.ids, token))
        is_listed = index < len(self.ids) and self.ids[index] == token
        return float(_float64_probs(self.given)[index]) if is_listed else 0.0

    def dense(self, vocab_size: int) -> FloatArray:
        """The whole distribution [vocab_size]; `vocab_size` must be the number of weights."""
        weights = self.weights
        if len(weights) != vocab_size:
            raise ValueError(f"{len(weights)} weights for a vocabulary of {vocab_size}")
        return _float64_probs(weights)

    def draw(self, uniform: float) -> int:
        """Inverse of the cumulative distribution at `uniform` in (0, 1); the whole row gives the same."""
        index = draw(_float64_probs(self.given), uniform)
        return index if self.ids is None else int(self.ids[index])


@dataclass(frozen=True, slots=True, eq=False)
class TopK:
    """CU-HLM's message (arXiv 2505.11788): the k largest probabilities, one byte each, and the draft token's.

    The draft token was drawn from the untruncated x with probability `draft_prob`. The receiver rebuilds x^
    by spreading the missing mass evenly over the other tokens, so the text does not have the target's
    distribution. Version 0.1.0 wrote the bytes on a logarithmic scale, which is coarser near 1.
    """

    ids: IntArray
    codes: npt.NDArray[np.uint8]
    draft_prob: float
    is_logarithmic: bool = False  # `encode_probs` instead of `encode_shares`

    def prob(self, token: int) -> float:  # noqa: ARG002 - the message has only the draft token's
        """The probability with which the draft token was drawn."""
        return self.draft_prob

    def spread(self, vocab_size: int) -> tuple[FloatArray, float]:
        """The probabilities of the listed ids, and the one that each other id gets."""
        kept = decode_probs(self.codes) if self.is_logarithmic else decode_shares(self.codes)
        num_rest = vocab_size - len(self.ids)
        total = float(kept.sum())
        if num_rest:
            kept = kept / max(1.0, total)
        else:
            kept = kept / total if total > 0.0 else np.full(vocab_size, 1.0 / vocab_size)
        return kept, max(0.0, 1.0 - float(kept.sum())) / max(1, num_rest)

    def dense(self, vocab_size: int) -> FloatArray:
        """x^ [vocab_size]: top-k as sent, the residual mass uniform over the rest."""
        kept, rest = self.spread(vocab_size)
        probs = np.full(vocab_size, rest)
        probs[self.ids] = kept
        return probs


Distribution: TypeAlias = Lattice | Dense | TopK


@dataclass(frozen=True, slots=True, eq=False)
class Warped:
    """A distribution before its last division: weights [vocab_size] over `total`.

    So the probability of one token costs one division. Numbers are those of `dense`, bit for bit.
    """

    weights: FloatArray
    total: float

    def __getitem__(self, token: int) -> float:
        """The probability of one token."""
        return float(self.weights[token] / self.total)

    def dense(self) -> FloatArray:
        """The whole distribution [vocab_size]."""
        return self.weights / self.total


@dataclass(frozen=True, slots=True)
class Certain:
    """All the mass on `choice`, in a vocabulary of `vocab_size`."""

    choice: int
    vocab_size: int

    def __getitem__(self, token: int) -> float:
        """1 for the choice, else 0."""
        return float(token == self.choice)

    def dense(self) -> FloatArray:
        """The whole distribution [vocab_size]."""
        probs = np.zeros(self.vocab_size)
        probs[self.choice] = 1.0
        return probs


def warp(logits: npt.NDArray[np.floating], sampling: Sampling) -> FloatArray:
    """Probabilities [vocab_size] after temperature, top-k, top-p, min-p (in this order, as in transformers).

    Ties go to the lower id, at both ends. Greedy gives all the mass to the largest logit.
    """
    return warped(logits, sampling).dense()


def warped(logits: npt.NDArray[np.floating], sampling: Sampling) -> Warped | Certain:
    """The same distribution as `warp`, without the work that a single probability does not need.

    The cost is linear in the size of the vocabulary, for any sampling.
    """
    if sampling.greedy:
        return Certain(int(np.argmax(logits)), len(logits))
    found = _softmax(logits, sampling.temperature)
    if 0 < sampling.top_k < len(logits):
        found = _top_k(found.dense(), sampling.top_k)
    if sampling.top_p < 1.0:
        found = _nucleus(found.dense(), sampling.top_p)
    if sampling.min_p > 0.0:
        weights = found.weights
        kept = np.where(weights >= sampling.min_p * weights.max(), weights, 0.0)
        found = Warped(kept, kept.sum())
    return found


def fit_vocabulary(logits: npt.NDArray[np.floating], vocab_size: int) -> npt.NDArray[np.floating]:
    """Logits [vocab_size]: padding beyond the vocabulary is cut off, missing entries become -inf."""
    if len(logits) >= vocab_size:
        return logits[:vocab_size]
    return np.concatenate([logits, np.full(vocab_size - len(logits), -np.inf, logits.dtype)])


def softmax(logits: npt.NDArray[np.floating], temperature: float = 1.0) -> FloatArray:
    """Probabilities [vocab_size] at a temperature above 0, in float64; a logit of -inf gets 0."""
    return _softmax(logits, temperature).dense()


def top_ids(probs: npt.NDArray[np.floating], count: int) -> IntArray:
    """The `count` most probable ids, most probable first, ties by the lower id."""
    if count >= len(probs):
        return np.argsort(-probs, kind="stable")
    threshold = np.partition(probs, -count)[-count]
    candidates = np.flatnonzero(probs >= threshold)
    return candidates[np.argsort(-probs[candidates], kind="stable")][:count]


def quantise(probs: FloatArray, max_ids: int, total: int) -> Lattice:
    """Truncate to at most `max_ids` ids and round to counts that sum to `total` (largest remainder).

    Ids whose count would be 0 are left out, so a peaked distribution makes a short message.
    """
    ids = top_ids(probs, max_ids)
    shares = probs[ids] / probs[ids].sum() * total
    counts = np.floor(shares).astype(np.int64)
    missing = total - int(counts.sum())
    counts[np.argsort(counts - shares, kind="stable")[:missing]] += 1
    order = np.lexsort((ids, -counts))[: int(np.count_nonzero(counts))]
    return Lattice(ids[order], counts[order])


def densify(probs: FloatArray) -> Dense:
    """The whole distribution as float16 weights; draws use the rounded weights."""
    return Dense(probs.astype(np.float16))


def draw(probs: FloatArray, uniform: float) -> int:
    """Inverse of the cumulative distribution at `uniform` in (0, 1); never a token of probability 0."""
    cumulative = np.cumsum(probs)
    return int(np.searchsorted(cumulative, uniform * cumulative[-1], side="right"))


def encode_probs(probs: FloatArray) -> npt.NDArray[np.uint8]:
    """One byte per probability, logarithmic: 2^(-code / 12), at most 2.9 % off; 255 stands for 0."""
    with np.errstate(divide="ignore"):
        codes = np.round(-LOG_STEPS_PER_OCTAVE * np.log2(probs))
    return np.clip(codes, 0, ZERO_PROB_CODE).astype(np.uint8)


def decode_probs(codes: npt.NDArray[np.uint8]) -> FloatArray:
    """The rounded probabilities that `encode_probs` wrote."""
    probs = 2.0 ** (-codes.astype(np.float64) / LOG_STEPS_PER_OCTAVE)
    probs[codes == ZERO_PROB_CODE] = 0.0
    return probs


def _float64_probs(weights: npt.NDArray[np.float16]) -> FloatArray:
    """Weights over their sum. If none is above 1 the sum is exact, and zeros among them change nothing."""
    numbers = weights.astype(np.float64)
    return numbers / numbers.sum()


def _softmax(logits: npt.NDArray[np.floating], temperature: float) -> Warped:
    weights = logits.astype(
        np.float64
    )  # a copy, changed in place: a new array this long costs as much as exp
    weights -= weights.max()
    weights /= temperature
    np.exp(weights, out=weights)
    return Warped(weights, weights.sum())


def _top_k(probs: FloatArray, count: int) -> Warped:
    """The `count` most probable ids, as `top_ids` finds them."""
    possible = _possible(probs)
    if count >= len(possible):
        return Warped(probs, probs.sum())
    return _keep(probs, count, float(np.partition(possible, -count)[-count]))


def _nucleus(probs: FloatArray, top_p: float) -> Warped:
    """The fewest most probable ids whose mass, summed in this order, reaches `top_p`. Usually few."""
    possible = _possible(probs)
    heads = [np.partition(possible, -NUCLEUS_HEAD)[-NUCLEUS_HEAD:]] if len(possible) > NUCLEUS_HEAD else []
    for head in (*heads, possible):
        ordered = _descending(head)
        count = int(np.searchsorted(np.cumsum(ordered), top_p, side="left")) + 1
        if count <= len(ordered):
            return _keep(probs, count, float(ordered[count - 1]))
    return Warped(probs, probs.sum())


def _possible(probs: FloatArray) -> FloatArray:
    """The probabilities above 0; with many zeros among them, a partition takes ten times as long."""
    return probs if probs.all() else probs[probs > 0.0]


def _descending(probs: FloatArray) -> FloatArray:
    """Probabilities, largest first, in time linear in their number.

    Two rounds of counting sort on their float32 bits leave only neighbours out of order. Timsort, linear on
    such input, puts them right.
    """
    if len(probs) <= NUCLEUS_HEAD:
        return np.sort(probs)[::-1]
    bits = probs.astype(np.float32).view(np.uint32)  # the order of floats that are not negative
    low = np.argsort((bits & 0xFFFF).astype(np.uint16), kind="stable")
    high = np.argsort((bits >> 16).astype(np.uint16)[low], kind="stable")
    return np.sort(probs[low[high]], kind="stable")[::-1]


def _keep(probs: FloatArray, count: int, smallest: float) -> Warped:
    """The `count` most probable ids, the last of them as probable as `smallest`; ties by the lower id."""
    kept = np.where(probs > smallest, probs, 0.0)
    ties = np.flatnonzero(probs == smallest)
    kept[ties[: count - int(np.count_nonzero(kept))]] = smallest
    return Warped(kept, kept.sum())
