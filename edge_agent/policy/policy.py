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
    Dense,
    Lattice,
    Sampling,
    TopK,
    quantise,
    top_ids,
)
from common.sampling.randomness import Purpose, uniform
from common.sampling.shares import encode_shares
from edge_agent.errors import ModelError
from edge_agent.policy.cheapest_k import DEFAULT_BYTE_PRICE, MAX_CHOSEN, cheapest_num_ids
from edge_agent.policy.coupled_choice import coupled_choice
from edge_agent.policy.head import Head, Logits
from edge_agent.policy.online_k import online_k
from edge_agent.policy.reach import (
    Reach,
    draw_any,
    kept,
    most_probable,
    representable,
    rounded,
    truncates,
    whole,
)
from edge_agent.policy.rejection_fit import PUBLISHED_FIT, Fit
from edge_agent.policy.schemes import Form, Gate, Scheme
from edge_agent.policy.uncertainty import ESTIMATORS, Estimator, estimate

DEFAULT_MAX_IDS = 32
MAX_IDS = 65536  # of one truncated distribution, by the protocol


def check_finite(logits: Logits | Head, position: int) -> None:
    """Raise ModelError unless all `logits` are finite, except -inf for some ids, which rules them out.

    The largest tells: it is NaN if any logit is, inf if any is, and -inf if all are.
    """
    if not math.isfinite(logits.largest if isinstance(logits, Head) else logits.max()):
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
    """A draft token [1], the draft model's probability of it, its uncertainty, and what to do with it.

    The uncertainty is measured where the scheme's gate asks for it, and 0 elsewhere.
    """

    draft: DraftToken
    prob: float
    uncertainty: float
    decision: Decision


@dataclass(frozen=True, slots=True)
class ForcedRun:
    """The tokens that follow, one after the other, each the only one that the grammar allows.

    Draft and target model agree on them with probability 1, so they need no run of either.
    """

    tokens: tuple[int, ...]


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
        head = Head.of(logits)
        check_finite(head, position)
        with np.errstate(over="ignore"):  # a logit near the lowest number of its type has no weight
            token, prob, distribution = self._draw(head, position)
            uncertainty = 0.0
            if self.scheme.gate is Gate.UNCERTAIN:
                uncertainty = estimate(self.estimator, head, token, self.seed, position)
        if self.scheme.form is Form.TOP_K and not self.sampling.greedy:
            distribution = self._top_k(head, prob, uncertainty)
        return Proposal(
            DraftToken(token, distribution), prob, uncertainty, self.decide(uncertainty, position)
        )

    def _draw(self, head: Head, position: int) -> tuple[int, float, Lattice | Dense | None]:
        """The token, its probability, and the distribution it was drawn from if that is sent."""
        if self.sampling.greedy:
            return head.first, 1.0, None
        form = self.scheme.form
        if form is Form.COUPLED:
            return *coupled_choice(head, self.sampling, self.seed, position), None
        number = uniform(self.seed, position, Purpose.DRAFT)
        if not (form in (Form.LATTICE, Form.DENSE) or head.is_whole or self._truncates(head)):
            return *draw_any(head, self.sampling.temperature, number), None
        reach = self._reach(head)
        if form is Form.LATTICE:
            distribution = self._lattice(reach, len(head.logits))
        elif form is Form.DENSE:
            distribution = rounded(reach, len(head.logits))
        else:
            return *reach.draw(number), None
        token = distribution.draw(number)
        return token, distribution.prob(token), distribution

    def _reach(self, head: Head) -> Reach:
        """The ids that the scheme's form can draw; a function of the logits alone."""
        temperature = self.sampling.temperature
        if head.is_whole:
            return whole(head, self.sampling)
        if self._truncates(head):
            return kept(head, self.sampling)
        if self.scheme.form is Form.DENSE:
            return representable(head, temperature)
        exact = self.scheme.form is not Form.LATTICE or not self.max_ids
        return most_probable(head, temperature, self.max_ids or MAX_CHOSEN, exact=exact)

    def _truncates(self, head: Head) -> bool:
        return truncates(self.sampling, len(head.logits))

    def _lattice(self, reach: Reach, vocab_size: int) -> Lattice:
        """The truncated distribution; k is chosen before the token is drawn (see `cheapest_num_ids`)."""
        k = self.max_ids or cheapest_num_ids(
            reach.probs, self.resolution, self.byte_price, vocab_size=vocab_size
        )
        among = quantise(reach.probs, k, self.resolution)
        return Lattice(reach.ids[among.ids], among.counts)

    def _top_k(self, head: Head, draft_prob: float, uncertainty: float) -> TopK:
        if self.scheme.adaptive_k:
            reach = whole(head, self.sampling)
            k = min(MAX_IDS, online_k(reach.probs, draft_prob, uncertainty, theta=self.theta, fit=self.fit))
        else:
            reach, k = self._reach(head), self.max_ids
        among = top_ids(reach.probs, k)
        return TopK(reach.ids[among], encode_shares(reach.probs[among]), draft_prob)

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
