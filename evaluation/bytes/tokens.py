"""Draft tokens with their lattices: the pair's own, and synthetic ones for large vocabularies.

Law: every token is drawn from its lattice, as an agent draws it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from common.protocol.limits import MAX_BLOCK_TOKENS
from common.protocol.messages import DraftToken
from common.sampling.distribution import Lattice, fit_vocabulary, quantise, softmax
from edge_agent.generation.drafting import NextTokenModel
from edge_agent.policy.policy import Decision, Policy

ZIPF_SHIFT = 2.0  # Mandelbrot's: how flat the first few ranks are
LOGIT_NOISE = 0.5  # scale of the Gumbel noise on each logit, so that the logits do not fall smoothly


@dataclass(frozen=True, slots=True)
class Seen:
    """A token that the model drafted, and whether the scheme's gate would send it to be verified."""

    token: DraftToken
    uncertain: bool


def drafted(
    model: NextTokenModel, policy: Policy, prompt: Sequence[int], vocab_size: int, ends: frozenset[int]
) -> Iterator[Seen]:
    """Yield the draft model's answer to a prompt, up to its end or the model's last position."""
    tokens = list(prompt)
    while len(tokens) < model.max_positions:
        proposal = policy.propose(fit_vocabulary(model.logits(tokens), vocab_size), len(tokens))
        yield Seen(proposal.draft, proposal.decision is Decision.UPLINK)
        tokens.append(proposal.draft.token)
        if tokens[-1] in ends:
            return


def spread(token: DraftToken, vocab_size: int, rng: np.random.Generator) -> DraftToken:
    """Return the same counts on random ids of another vocabulary."""
    assert isinstance(token.distribution, Lattice)
    counts = token.distribution.counts
    return _drawn(_lattice(rng.choice(vocab_size, len(counts), replace=False), counts), rng)


def zipf(
    exponent: float, *, max_ids: int, total: int, vocab_size: int, rng: np.random.Generator
) -> DraftToken:
    """Quantise the softmax of -exponent * log(rank + ZIPF_SHIFT) + noise, with ids in random order."""
    ranks = np.arange(1, vocab_size + 1)
    logits = rng.gumbel(scale=LOGIT_NOISE, size=vocab_size) - exponent * np.log(ranks + ZIPF_SHIFT)
    return _drawn(quantise(softmax(rng.permutation(logits)), max_ids, total), rng)


def anything(size: int, *, total: int, vocab_size: int, rng: np.random.Generator) -> DraftToken:
    """Draw one of all lattices of `size` ids, all equally likely: no code can shorten these."""
    cuts = np.sort(rng.choice(total - 1, size - 1, replace=False)) + 1
    return _drawn(_lattice(rng.choice(vocab_size, size, replace=False), np.diff([0, *cuts, total])), rng)


def blocks(tokens: Sequence[DraftToken], size: int) -> list[tuple[DraftToken, ...]]:
    """Split the tokens into blocks of `size`; a shorter rest is dropped."""
    assert size <= MAX_BLOCK_TOKENS
    return [tuple(tokens[start : start + size]) for start in range(0, len(tokens) - size + 1, size)]


def _lattice(ids: np.ndarray, counts: np.ndarray) -> Lattice:
    order = np.lexsort((ids, -counts))
    return Lattice(ids[order].astype(np.int64), counts[order].astype(np.int64))


def _drawn(lattice: Lattice, rng: np.random.Generator) -> DraftToken:
    return DraftToken(lattice.draw(float(rng.random())), lattice)
