"""The token for one position, decided by questions to a server that knows the target model. Pure.

Law 2: the token has the target's distribution. One of our own numbers accepts the draft token or draws within
its lattice. Only a token outside the lattice, and a token without a draft, is the server's sample.

A sample outside the lattice is drawn until one lies there. The first comes with the probabilities. If the
outside is unlikely, samples are drawn with the lattice's logits lowered: the proportions outside stay. With
filters (top-k, top-p, min-p) lowering logits would move the filter. So samples then pass a top-p that surely
holds what is wanted, and those which the filters drop are dropped here.
"""

from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np

from cloud_worker.vllm_target.lattice import Split
from cloud_worker.vllm_target.questions import Question, Reply, server_seed
from common.protocol.messages import DraftToken
from common.sampling.distribution import Lattice, Sampling
from common.sampling.randomness import Purpose, uniform

ROUNDS = (8, 64)  # samples asked for at once, when the first was of no use
MARGIN, FACTOR = 5e-4, 1.05  # of a top-p that must hold all that is wanted, in spite of rounding

Asking: TypeAlias = Generator[Question, Reply, int]


class NoSampleError(ArithmeticError):
    """The server's samples are of no use: all are outside the vocabulary."""


@dataclass(frozen=True, slots=True)
class Place:
    """A position of a session, and what the draws there depend on; ids from `vocab_size` on are padding."""

    sampling: Sampling
    seed: int
    position: int
    vocab_size: int

    def question(
        self, ids: Sequence[int] = (), *, sampling: Sampling | None = None, round_: int = 0
    ) -> Question:
        """A question about this position."""
        seed = server_seed(self.seed, self.position, round_)
        return Question(self.position, sampling or self.sampling, seed, tuple(ids))


def deciding(place: Place, draft: DraftToken | None) -> Asking:
    """The token: the draft token if it is accepted, else its replacement; without a draft, a sample."""
    if draft is None or place.sampling.greedy:
        return (yield from _sampled(place))
    if not isinstance(draft.distribution, Lattice):
        raise TypeError("only a lattice can be verified with the probabilities of a few ids")
    lattice = draft.distribution
    ids = lattice.ids.tolist()
    reply = yield place.question(ids)
    split = Split.of(lattice, np.array(reply.probs))
    if uniform(place.seed, place.position, Purpose.ACCEPT) < split.accept_probability(draft.token):
        return draft.token
    token = split.replacement(uniform(place.seed, place.position, Purpose.RESAMPLE))
    if token is None:
        token = yield from _outside(place, split, reply)
    return token


def measuring(place: Place, token: int) -> Generator[Question, Reply, float]:
    """The target's probability of a token."""
    if place.sampling.greedy:
        return float((yield place.question()).samples[0] == token)
    return (yield place.question((token,))).probs[0]


def _sampled(place: Place) -> Asking:
    """A sample of the target that lies in the vocabulary."""
    reply = yield place.question()
    for round_, count in enumerate(ROUNDS, 1):
        for token in reply.samples:
            if token < place.vocab_size:
                return token
        reply = yield replace(place.question(round_=round_), num_samples=count)
    raise NoSampleError(f"the server's samples for position {place.position} are outside the vocabulary")


def _outside(place: Place, split: Split, first: Reply) -> Asking:
    """A sample of the target outside the lattice.

    If there is none the mass outside was rounding: then the most likely replacement inside, or the sample.
    """
    ids: list[int] = split.lattice.ids.tolist()
    excluded = frozenset(ids)
    if (token := first.samples[0]) < place.vocab_size and token not in excluded:
        return token
    is_filtered = _is_filtered(place.sampling)
    proposal = (yield from _proposal(place, split)) if is_filtered else place.sampling
    for round_, count in enumerate(ROUNDS, 1):
        question = place.question(sampling=proposal, round_=round_)
        reply = yield replace(question, num_samples=count, avoided=tuple(ids))
        found = [token for token in reply.samples if token < place.vocab_size and token not in excluded]
        if found and is_filtered:
            distinct = sorted(set(found))
            probs = (yield place.question(distinct)).probs
            kept = {token for token, prob in zip(distinct, probs, strict=True) if prob > 0.0}
            found = [token for token in found if token in kept]
        if found:
            return found[0]
    nearest = split.nearest()
    return first.samples[0] if nearest is None else nearest


def _is_filtered(sampling: Sampling) -> bool:
    return sampling.top_k > 0 or sampling.top_p < 1.0 or sampling.min_p > 0.0


def _proposal(place: Place, split: Split) -> Generator[Question, Reply, Sampling]:
    """Sampling whose filter, once the lattice is lowered, keeps at least what the filters keep outside it.

    What filters keep is a beginning of the tokens in the order of their probability, so it is enough to know
    its mass: y is the unfiltered y' over the mass kept, and both are known at an id inside.
    """
    plain = replace(place.sampling, top_k=0, top_p=1.0, min_p=0.0)
    best = int(np.argmax(split.target_probs))
    unfiltered = (yield place.question(split.lattice.ids.tolist(), sampling=plain)).probs
    rest = 1.0 - sum(unfiltered)
    if rest <= MARGIN or split.target_probs[best] <= 0.0:
        return plain
    wanted = split.outside * unfiltered[best] / float(split.target_probs[best])
    return replace(plain, top_p=min(1.0, FACTOR * wanted / rest + MARGIN))
