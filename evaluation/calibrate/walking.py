"""Walks through the answer to a prompt: each draft token, and how the target model judges it.

There are two walks: along the *hybrid*'s text, in which the tokens above the threshold are verified and the
others stand, and along the *target*'s own text. Draft tokens are drawn by the seed, from the distribution
that would be sent. Law: both texts are what a device, or the target alone, would write with this seed. They
are written in runs, each of which the target reads in one pass, so a text takes one pass per rejection and
one per `LONGEST_RUN` tokens. With a threshold of 1 nothing is rejected.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from cloud_worker.session.verification import target_choice, verify_token
from common.protocol.messages import DraftToken
from common.sampling.distribution import Sampling, fit_vocabulary, warp
from common.sampling.penalties import Penalties
from common.sampling.randomness import FloatArray
from edge_agent.assembly import build_policy, choose_sampling
from edge_agent.config import AgentConfig
from edge_agent.policy.online_k import error_weight, truncation_errors
from edge_agent.policy.policy import Decision, Policy, Proposal
from edge_agent.policy.uncertainty import ESTIMATORS
from evaluation.calibrate.samples import COSTED_KS, COSTS, HYBRID, SENT_LEVELS, TARGET, Seen, Times, Walk
from evaluation.models.pair import Pair
from evaluation.models.truncation_costs import distance, truncation_costs

NUM_EVERY_K = 128  # every k up to here, then about 12 per octave
FIRST_RUN, SHORTEST_RUN, LONGEST_RUN = 16, 3, 64  # tokens; a row of logits may take 1 MB

_Choice: TypeAlias = Callable[[Proposal, FloatArray, int, int], int]


def walk_prompt(
    pair: Pair, config: AgentConfig, prompt: str, seed: int, *, along_target: bool = False
) -> Mapping[str, Walk]:
    """Return the walk of one prompt along the hybrid's text, and along the target's with `along_target`."""
    tokens = pair.prompt(prompt)
    walks = {HYBRID: _follow(pair, config, tokens, seed, _verified)}
    if along_target:
        walks[TARGET] = _follow(pair, config, tokens, seed, _of_the_target)
    return walks


def _verified(proposal: Proposal, target_probs: FloatArray, seed: int, position: int) -> int:
    """The hybrid's token: a skipped one stands, another one is verified."""
    if proposal.decision is Decision.SKIP:
        return proposal.draft.token
    return verify_token(target_probs, proposal.draft, seed, position)


def _of_the_target(_: Proposal, target_probs: FloatArray, seed: int, position: int) -> int:
    """The target's own token."""
    return target_choice(target_probs, seed, position)


def _follow(pair: Pair, config: AgentConfig, prompt: list[int], seed: int, choose: _Choice) -> Walk:
    """Draft a run of tokens, let the target read it in one pass, keep what `choose` keeps, and go on there.

    A run is twice as long after one that was kept whole, and else as long as what was kept.
    """
    sampling = choose_sampling(config, pair.info.sampling)
    policy = build_policy(config, sampling, seed)
    notes = Notes(sampling, seed, pair.vocab_size)
    ours, theirs = Penalties(sampling, len(prompt)), Penalties(sampling, len(prompt))
    keeps_all = choose is _verified and policy.threshold >= 1.0
    tokens, num_ahead = list(prompt), LONGEST_RUN if keeps_all else FIRST_RUN
    end = min(len(prompt) + config.max_tokens, pair.max_positions)
    while len(tokens) < end:
        drafted = _draft(pair, policy, ours, tokens, min(num_ahead, end - len(tokens)), notes.times)
        ahead = [*tokens, *(proposal.draft.token for _, proposal in drafted)]
        num_kept = 0
        rows = _read(pair, ahead, len(drafted), notes.times)
        for (logits, proposal), row in zip(drafted, rows, strict=True):
            position = len(tokens)
            target_logits = theirs.apply(fit_vocabulary(row, pair.vocab_size), tokens, position)
            target_probs = warp(target_logits, sampling)
            notes.note(position, logits, proposal, target_probs)
            tokens.append(choose(proposal, target_probs, seed, position))
            if tokens[-1] in pair.eos_ids:
                return notes.walk()
            if tokens[-1] != proposal.draft.token:
                break
            num_kept += 1
        whole = num_kept == len(drafted)
        num_ahead = min(LONGEST_RUN, 2 * num_ahead) if whole else max(SHORTEST_RUN, num_kept)
    return notes.walk()


def _draft(
    pair: Pair, policy: Policy, penalties: Penalties, tokens: Sequence[int], num: int, times: Times
) -> list[tuple[npt.NDArray[np.floating], Proposal]]:
    """Up to `num` draft tokens as if all were kept, with their logits."""
    ahead, drafted = list(tokens), list[tuple[npt.NDArray[np.floating], Proposal]]()
    for _ in range(num):
        known, began = pair.stores.draft.num_computed, perf_counter()
        logits = fit_vocabulary(pair.draft.logits(ahead), pair.vocab_size)
        if drafted and pair.stores.draft.num_computed > known:  # the first one may read the prompt
            times.drafted(perf_counter() - began)
        logits = penalties.apply(logits, ahead, len(ahead))
        drafted.append((logits, policy.propose(logits, len(ahead))))
        ahead.append(drafted[-1][1].draft.token)
        if ahead[-1] in pair.eos_ids:
            break
    return drafted


def _read(pair: Pair, ahead: Sequence[int], num_rows: int, times: Times) -> npt.NDArray[np.float32]:
    """The target's rows [num_rows, width] for the last tokens of `ahead`, in one pass."""
    known, began = pair.stores.target.num_computed, perf_counter()
    rows = pair.target.rows(ahead[:-1], num_rows)
    if pair.stores.target.num_computed > known:
        times.read(num_rows, perf_counter() - began)
    return rows


def truncation_lengths(vocab_size: int) -> tuple[int, ...]:
    """Return the k at which truncation is measured, ascending; the last is |V| - 1."""
    last = vocab_size - 1
    coarse = np.geomspace(NUM_EVERY_K, last, 1 + max(0, round(12 * np.log2(last / NUM_EVERY_K))))
    every = range(1, min(NUM_EVERY_K, last) + 1)
    return tuple(sorted({*every, *(int(k) for k in coarse if k <= last), last}))


@dataclass(slots=True)
class Notes:
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
    times: Times = field(default_factory=Times)

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
            self.times,
        )

    def _accepted(self, target_probs: FloatArray, draft: DraftToken, position: int) -> bool:
        return verify_token(target_probs, draft, self.seed, position) == draft.token
