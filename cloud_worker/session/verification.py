"""Speculative verification: whether the target model accepts a draft token, and what replaces it. Pure.

Law 2: for any draft distribution, the token that results has the target's distribution. With q the
draft_probs and y the target_probs,

    sum_d q(d) [ accept(d) 1_d + (1 - accept(d)) residual ] = y

provided that d was drawn from exactly the q that was sent (`Lattice`, `Dense`). Every draw is keyed by
(seed, position), so a block gives the same tokens whether it is verified whole, in parts or twice.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from common.protocol.messages import DraftToken
from common.sampling.distribution import Certain, Warped, draw
from common.sampling.randomness import FloatArray, Purpose, gumbel_noise, uniform

TargetProbs: TypeAlias = FloatArray | Warped | Certain


@dataclass(frozen=True, slots=True)
class Verdict:
    """How many tokens of a block are accepted, and the token after them (None: all, without a bonus)."""

    num_accepted: int
    token: int | None


def accept_probability(target_probs: TargetProbs, draft: DraftToken) -> float:
    """min(1, y_d / q_d) (Leviathan et al. 2023, eq. 1; arXiv 2412.12687, eq. 5)."""
    if draft.distribution is None:
        raise ValueError("a draft token without a distribution is verified by the target's choice")
    return min(1.0, float(target_probs[draft.token]) / draft.distribution.prob(draft.token))


def residual(target_probs: FloatArray, draft_probs: FloatArray) -> FloatArray:
    """norm((y - q)+) [vocab_size]; target_probs itself if rounding leaves no mass."""
    excess = np.maximum(target_probs - draft_probs, 0.0)
    mass = excess.sum()
    return excess / mass if mass > 0.0 else target_probs


def target_choice(target_probs: TargetProbs, seed: int, position: int) -> int:
    """argmax(log y + g): a draw from y with the noise that both ends share (arXiv 2408.07978).

    If y is greedy (all mass on one token), that token.
    """
    if isinstance(target_probs, Certain):
        return target_probs.choice
    probs = _dense(target_probs)
    best = int(np.argmax(probs))
    if probs[best] >= 1.0:
        return best
    with np.errstate(divide="ignore"):
        return int(np.argmax(np.log(probs) + gumbel_noise(seed, position, len(probs))))


def verify_token(target_probs: TargetProbs, draft: DraftToken, seed: int, position: int) -> int:
    """The token for `position`: the draft token when it is accepted, else its replacement."""
    if draft.distribution is None:
        return target_choice(target_probs, seed, position)
    if uniform(seed, position, Purpose.ACCEPT) < accept_probability(target_probs, draft):
        return draft.token
    probs = _dense(target_probs)
    remainder = residual(probs, draft.distribution.dense(len(probs)))
    return draw(remainder, uniform(seed, position, Purpose.RESAMPLE))


def verify_block(
    target_probs: Callable[[int], TargetProbs],
    block: Sequence[DraftToken],
    *,
    seed: int,
    position: int,
    bonus: bool,
) -> Verdict:
    """Verify the tokens of a block in turn, up to the first rejection.

    `target_probs(i)` returns y [vocab_size] for token i of the block, and for the bonus token at
    i = len(block). `position` is that of the first token. Acceptance is deliberately per token, not per
    block: the result must not depend on where a sequence was cut into blocks.
    """
    for i, draft in enumerate(block):
        token = verify_token(target_probs(i), draft, seed, position + i)
        if token != draft.token:
            return Verdict(i, token)
    if not bonus:
        return Verdict(len(block), None)
    return Verdict(len(block), target_choice(target_probs(len(block)), seed, position + len(block)))


def _dense(target_probs: TargetProbs) -> FloatArray:
    return target_probs if isinstance(target_probs, np.ndarray) else target_probs.dense()
