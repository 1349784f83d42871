"""Walks through the answer to a prompt: each draft token, and how the target model judges it.

There are two walks: along the *target*'s own text (teacher-forced: the draft model drafts at each prefix, but
its tokens are not used), and along the *hybrid*'s own text, which the real session, policy and verification
write. Draft tokens are drawn by the seed, from the distribution that would be sent.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from cloud_worker.session.verification import target_choice, verify_token
from common.protocol.messages import DraftToken
from common.sampling.distribution import Sampling, fit_vocabulary, warp
from common.sampling.randomness import FloatArray
from edge_agent.assembly import build_policy, choose_sampling
from edge_agent.config import AgentConfig
from edge_agent.policy.online_k import error_weight, truncation_errors
from edge_agent.policy.policy import Decision, Proposal
from edge_agent.policy.uncertainty import ESTIMATORS
from evaluation.calibrate.samples import COSTED_KS, COSTS, HYBRID, SENT_LEVELS, TARGET, Seen, Walk
from evaluation.models.pair import Pair
from evaluation.models.truncation_costs import distance, truncation_costs
from evaluation.models.undelayed import write

NUM_EVERY_K = 128  # every k up to here, then about 12 per octave


def walk_both(pair: Pair, config: AgentConfig, prompt: str, seed: int) -> Mapping[str, Walk]:
    """Return both walks of one prompt, by the text that they follow."""
    tokens = pair.prompt(prompt)
    return {
        TARGET: _along_target(pair, config, tokens, seed),
        HYBRID: _along_hybrid(pair, config, tokens, seed),
    }


def _along_target(pair: Pair, config: AgentConfig, prompt: list[int], seed: int) -> Walk:
    sampling = choose_sampling(config, pair.info.sampling)
    policy = build_policy(config, sampling, seed)
    notes = _Notes(sampling, seed, pair.vocab_size)
    tokens = list(prompt)
    for position in range(len(prompt), min(len(prompt) + config.max_tokens, pair.max_positions)):
        target_probs = warp(fit_vocabulary(pair.target.row(tokens), pair.vocab_size), sampling)
        logits = fit_vocabulary(pair.draft.logits(tokens), pair.vocab_size)
        notes.note(position, logits, policy.propose(logits, position), target_probs)
        tokens.append(target_choice(target_probs, seed, position))
        if tokens[-1] in pair.eos_ids:
            break
    return notes.walk()


def _along_hybrid(pair: Pair, config: AgentConfig, prompt: list[int], seed: int) -> Walk:
    drafted: dict[int, Proposal] = {}

    def on_proposal(position: int, proposal: Proposal) -> None:
        drafted[position] = proposal

    written = write(pair, config, prompt, seed, on_proposal=on_proposal)
    sampling = choose_sampling(config, pair.info.sampling)
    notes = _Notes(sampling, seed, pair.vocab_size)
    tokens = [*prompt, *written.tokens]
    rows = pair.target.rows(tokens[:-1], len(written.tokens))
    for position, row in enumerate(rows, len(prompt)):
        logits = fit_vocabulary(pair.draft.logits(tokens[:position]), pair.vocab_size)
        target_probs = warp(fit_vocabulary(row, pair.vocab_size), sampling)
        notes.note(position, logits, drafted[position], target_probs)
    return notes.walk()


def truncation_lengths(vocab_size: int) -> tuple[int, ...]:
    """Return the k at which truncation is measured, ascending; the last is |V| - 1."""
    last = vocab_size - 1
    coarse = np.geomspace(NUM_EVERY_K, last, 1 + max(0, round(12 * np.log2(last / NUM_EVERY_K))))
    every = range(1, min(NUM_EVERY_K, last) + 1)
    return tuple(sorted({*every, *(int(k) for k in coarse if k <= last), last}))


@dataclass(slots=True)
class _Notes:
    """Collects the draft tokens of one walk."""

    sampling: Sampling
    seed: int
    vocab_size: int
    seen: list[Seen] = field(default_factory=list)
    ks: npt.NDArray[np.int64] = field(init=False)
    tail_mass: FloatArray = field(init=False)
    bound: FloatArray = field(init=False)
    sent_bounds: FloatArray = field(init=False)
    costs: FloatArray = field(init=False)
    num_above: npt.NDArray[np.int64] = field(init=False)
    num_sent: int = 0

    def __post_init__(self) -> None:
        self.ks = np.array(truncation_lengths(self.vocab_size))
        self.tail_mass, self.bound = np.zeros(len(self.ks)), np.zeros(len(self.ks))
        self.sent_bounds = np.zeros((len(SENT_LEVELS), len(self.ks)))
        self.num_above = np.zeros(len(SENT_LEVELS), np.int64)
        self.costs = np.zeros((len(COSTS), len(COSTED_KS)))

    def note(
        self, position: int, logits: npt.NDArray[np.floating], proposal: Proposal, target_probs: FloatArray
    ) -> None:
        """Judge one draft token; `logits` and `target_probs` [vocab_size] belong to `position`."""
        draft, token = proposal.draft, proposal.draft.token
        draft_probs = warp(logits, self.sampling)
        sent = draft.distribution.dense(self.vocab_size) if draft.distribution else draft_probs
        rejection = max(0.0, 1.0 - float(target_probs[token]) / proposal.prob)
        self.seen.append(
            Seen(
                {name: each(logits, token, self.seed, position) for name, each in ESTIMATORS.items()},
                rejection,
                distance(sent, target_probs),
                distance(draft_probs, target_probs),
                bool(target_probs[token] < draft_probs[token]),
                self._accepted(target_probs, draft, position),
            )
        )
        descending = np.sort(draft_probs)[::-1]
        self.tail_mass += np.maximum(0.0, 1.0 - np.cumsum(descending)[self.ks - 1])
        errors = truncation_errors(descending)[self.ks - 1]
        bound = errors / error_weight(float(draft_probs[token]), rejection)
        self.bound += bound
        is_above = proposal.uncertainty > np.array(SENT_LEVELS)
        self.sent_bounds += np.outer(is_above, bound)
        self.num_above += is_above
        if proposal.decision is not Decision.SKIP:
            self.num_sent += 1
            costs = [truncation_costs(draft_probs, target_probs, token, k) for k in COSTED_KS]
            self.costs += np.array(costs).T

    def walk(self) -> Walk:
        """Return the collected draft tokens."""
        return Walk(
            tuple(self.seen),
            tuple(self.ks.tolist()),
            tuple(self.tail_mass.tolist()),
            tuple(self.bound.tolist()),
            tuple(tuple(row) for row in self.sent_bounds.tolist()),
            tuple(tuple(row) for row in self.costs.tolist()),
            tuple(self.num_above.tolist()),
            self.num_sent,
        )

    def _accepted(self, target_probs: FloatArray, draft: DraftToken, position: int) -> bool:
        return verify_token(target_probs, draft, self.seed, position) == draft.token
