"""k* of CU-HLM offline from the tokens that it sends, beside the calibration's, which is from all tokens.

The rule is that of arXiv 2505.11788 with the true rejection probability: the least k whose mean error bound
(eq. 26) is at most theta. Most tokens are certain, and one probability is enough for them; those that are
sent are the uncertain ones.
"""

from collections.abc import Sequence

import numpy as np

from common.sampling.distribution import fit_vocabulary, warp
from common.sampling.randomness import FloatArray
from edge_agent.policy.online_k import error_weight, truncation_errors
from evaluation.simulate.measures import judged
from evaluation.simulate.running import Simulation
from evaluation.simulate.world.device import Outcome

THETA = 0.1  # the tolerated truncation error: a reader's default, the paper publishes none


def least_k(bounds: Sequence[FloatArray], theta: float = THETA) -> int:
    """Return the least k whose mean bound is at most `theta`; `bounds` has [|V| - 1] for each token."""
    within = np.flatnonzero(np.mean(bounds, axis=0) <= theta)
    return int(within[0]) + 1 if len(within) else len(bounds[0]) + 1


def sent_k(simulation: Simulation, outcomes: Sequence[Outcome], theta: float = THETA) -> int:
    """Return k* from the tokens of some texts that were sent to be verified."""
    size = simulation.pair.vocab_size
    bounds: list[FloatArray] = []
    for outcome in outcomes:
        tokens = [*outcome.prompt, *outcome.tokens]
        proposals = simulation.proposals(outcome.seed, outcome.numbers)
        for place, target_probs in judged(simulation, outcome, skipped=False):
            proposal = proposals.propose(tokens[:place])
            logits = fit_vocabulary(simulation.pair.draft.logits(tokens[:place]), size)
            draft_probs = warp(logits, simulation.sampling)
            drawn = float(draft_probs[proposal.draft.token])
            beta = max(0.0, 1.0 - float(target_probs[proposal.draft.token]) / drawn)
            bounds.append(truncation_errors(np.sort(draft_probs)[::-1]) / error_weight(drawn, beta))
    return least_k(bounds, theta)
