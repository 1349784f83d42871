"""From logits to a proposal: the draft token, what would be sent with it, and whether it must be verified.

Law 1: the draft token is drawn from the same distribution that would be sent. Whether a token goes up is
decided after the draw, so the decision cannot bias it. A model that returns no distribution is an error: its
token is never taken for certain.
"""

import math
from dataclasses import dataclass, field
from enum import Enum

import numpy as np
import numpy.typing as npt

from common.protocol.messages import DraftToken
from common.sampling.distribution import (
    LATTICE_TOTALS,
    Sampling,
    TopK,
    densify,
    draw,
    quantise,
    top_ids,
    warp,
)
from common.sampling.randomness import FloatArray, Purpose, gumbel_noise, uniform
from common.sampling.shares import encode_shares
from edge_agent.errors import ModelError
from edge_agent.policy.cheapest_k import DEFAULT_BYTE_PRICE, cheapest_num_ids
from edge_agent.policy.online_k import online_k
from edge_agent.policy.rejection_fit import PUBLISHED_FIT, Fit
from edge_agent.policy.schemes import Form, Gate, Scheme
from edge_agent.policy.uncertainty import ESTIMATORS, Estimator

DEFAULT_MAX_IDS = 32
MAX_IDS = 65536  # of one truncated distribution, by the protocol


def check_finite(logits: npt.NDArray[np.floating], position: int) -> None:
    """Raise ModelError unless all `logits` are finite, except -inf for some ids, which rules them out.

    The largest tells: it is NaN if any logit is, inf if any is, and -inf if all are. One pass: 8 us for a
    vocabulary of 151,936.
    """
    if not math.isfinite(logits.max()):
        raise ModelError(
            f"The draft model returned numbers that are not finite at position {position}: use a graph of "
            "another precision (fp32 or int8; see `model_file`)."
        )


class Decision(Enum):
    """What happens to a draft token."""

    SKIP = "skip"  # it stands as it is
    HOLD = "hold"  # it joins the block that will be verified
    UPLINK = "uplink"  # it joins the block, and the block goes up


@dataclass(frozen=True, slots=True)
class Proposal:
    """A draft token [1], the draft model's probability of it, its uncertainty, and what to do with it."""

    draft: DraftToken
    prob: float
    uncertainty: float
    decision: Decision


@dataclass(frozen=True, slots=True)
class Policy:
    """A scheme with its numbers. Pure: the same logits, seed and position give the same proposal."""

    scheme: Scheme
    sampling: Sampling
    seed: int
    threshold: float
    max_ids: int = DEFAULT_MAX_IDS  # k: how many ids a truncated distribution keeps; 0: chosen per token
    byte_price: float = DEFAULT_BYTE_PRICE  # for that choice: the time of a byte over that of a rejection
    resolution: int = LATTICE_TOTALS[0]  # the sum of a lattice distribution's counts
    uplink_probability: float = 0.5  # Rand-HLM's coin
    theta: float = 0.1  # CU-HLM online: the tolerated truncation error; the papers publish no value
    fit: Fit = PUBLISHED_FIT  # CU-HLM online: the line from uncertainty to rejection
    estimator: Estimator = field(default=ESTIMATORS["perturbation-mean"])

    def propose(self, logits: npt.NDArray[np.floating], position: int) -> Proposal:
        """Draw the token for `position` from `logits` [vocab_size], and decide whether to verify it.

        Raises ModelError when the logits are not those of a distribution.
        """
        check_finite(logits, position)
        probs = warp(logits, self.sampling)
        form = self.scheme.form
        if self.sampling.greedy or form is Form.COUPLED:
            token, distribution = self._coupled_choice(probs, position), None
        elif form is Form.LATTICE:
            distribution = quantise(probs, self._num_ids(probs), self.resolution)
            token = distribution.draw(self._draft_uniform(position))
        elif form is Form.DENSE:
            distribution = densify(probs)
            token = distribution.draw(self._draft_uniform(position))
        else:
            token, distribution = draw(probs, self._draft_uniform(position)), None
        with np.errstate(over="ignore"):  # a logit near the lowest number of its type has no weight
            uncertainty = self.estimator(logits, token, self.seed, position)
        if form is Form.TOP_K and not self.sampling.greedy:
            distribution = self._top_k(probs, token, uncertainty)
        return Proposal(
            DraftToken(token, distribution),
            distribution.prob(token) if distribution else float(probs[token]),
            uncertainty,
            self.decide(uncertainty, position),
        )

    def _num_ids(self, probs: FloatArray) -> int:
        """k, before the token is drawn: a function of the probabilities alone (see `cheapest_k`)."""
        return self.max_ids or cheapest_num_ids(probs, self.resolution, self.byte_price)

    def _draft_uniform(self, position: int) -> float:
        return uniform(self.seed, position, Purpose.DRAFT)

    def _coupled_choice(self, probs: FloatArray, position: int) -> int:
        if self.sampling.greedy:
            return int(np.argmax(probs))
        with np.errstate(divide="ignore"):
            return int(np.argmax(np.log(probs) + gumbel_noise(self.seed, position, len(probs))))

    def _top_k(self, probs: FloatArray, token: int, uncertainty: float) -> TopK:
        draft_prob = float(probs[token])
        k = self.max_ids
        if self.scheme.adaptive_k:
            k = min(MAX_IDS, online_k(probs, draft_prob, uncertainty, theta=self.theta, fit=self.fit))
        ids = top_ids(probs, k)
        return TopK(ids, encode_shares(probs[ids]), draft_prob)

    def decide(self, uncertainty: float, position: int) -> Decision:
        """What happens to the draft token of `position`, given its uncertainty."""
        match self.scheme.gate:
            case Gate.NEVER:
                must_verify = False
            case Gate.ALWAYS:
                must_verify = True
            case Gate.COIN:
                must_verify = uniform(self.seed, position, Purpose.UPLINK) < self.uplink_probability
            case Gate.UNCERTAIN:
                must_verify = not uncertainty <= self.threshold  # what is not a number is not certain
        if must_verify:
            return Decision.UPLINK
        return Decision.HOLD if self.scheme.holds else Decision.SKIP
