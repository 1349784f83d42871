"""The replies of all settings to one command with one seed, and the drift of each. No link, no clock.

Law: a text is what an agent and a worker would write (law 3). Here it is written token by token with the
agent's own policy and the worker's own verification, and what settings have in common is computed once. A
test compares the texts with those of both state machines.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from cloud_worker.session.verification import verify_token
from common.sampling.distribution import Certain, Sampling, TopK, Warped, fit_vocabulary, warp, warped
from edge_agent.assembly import build_policy, choose_sampling
from edge_agent.policy.head import Logits
from edge_agent.policy.policy import Decision, Policy, Proposal
from edge_agent.policy.uncertainty import ESTIMATORS, Estimator
from evaluation.models.pair import Pair
from evaluation.models.truncation_costs import bias
from evaluation.models.undelayed import write
from evaluation.quality.agreement import edit_distance
from evaluation.quality.reply import PARTS, Reply
from evaluation.quality.setting import REFERENCE, Setting
from evaluation.quality.variants import agent_config
from evaluation.smart_home.held_out import HeldOut

MAX_TOKENS = 256
FAST_REFERENCE = "coupled"  # the target's text too, for every seed (tests/evaluation/test_demo_pair.py)
BY_STATE_MACHINES = ("lossless", FAST_REFERENCE)  # schemes that verify in blocks

Tokens: TypeAlias = tuple[int, ...]
Row: TypeAlias = npt.NDArray[np.floating]


@dataclass(frozen=True, slots=True)
class Text:
    """What was written, how much of it was skipped, and the sums that `Reply` describes, in tokens."""

    tokens: Tokens
    skipped: int = 0
    drift: float = 0.0
    bound: float = 0.0
    bias: float = 0.0


@dataclass(slots=True)
class Desk:
    """Both models before one prompt: what was computed after each prefix, for a seed and a sampling."""

    pair: Pair
    prompt: Tokens
    seed: int
    sampling: Sampling
    proposals: dict[tuple[Policy, Tokens], Proposal] = field(default_factory=dict)
    targets: dict[Tokens, Warped | Certain] = field(default_factory=dict)
    biases: dict[tuple[Policy, Tokens], float] = field(default_factory=dict)
    logits: dict[Tokens, Row] = field(default_factory=dict)
    estimators: dict[str, Estimator] = field(
        default_factory=lambda: {name: _remembering(each) for name, each in ESTIMATORS.items()}
    )

    def text(self, setting: Setting) -> Text:
        """Write the text of a setting."""
        policy = build_policy(agent_config(setting, MAX_TOKENS), self.sampling, self.seed)
        policy = replace(policy, fit=setting.fit, estimator=self.estimators[setting.estimator])
        kind = replace(policy, threshold=0.0, uplink_probability=0.5)  # what the draws depend on
        stops = self.pair.info.eos_ids | self.pair.target.eos_ids
        tokens, skipped, drift, bound, wrong = self.prompt, 0, 0.0, 0.0, 0.0
        last = min(len(tokens) + MAX_TOKENS, self.pair.max_positions)
        while len(tokens) < last:
            position = len(tokens)
            proposal = self._proposal(kind, tokens)
            token = proposal.draft.token
            if policy.decide(proposal.uncertainty, position) is Decision.SKIP:
                skipped += 1
                drift += max(0.0, 1.0 - self._target(tokens)[token] / proposal.prob)
                bound += policy.fit.rejection(proposal.uncertainty)
            else:
                wrong += self._bias(kind, tokens, proposal)
                token = verify_token(self._target(tokens), proposal.draft, self.seed, position)
            tokens = (*tokens, token)
            if token in stops:
                break
        return Text(tokens[len(self.prompt) :], skipped, drift, bound, wrong)

    def know(self, tokens: Tokens) -> None:
        """Compute the target's distributions along a text at once."""
        rows = self.pair.target.rows((*self.prompt, *tokens[:-1]), len(tokens))
        for number, row in enumerate(rows):
            logits = fit_vocabulary(row, self.pair.vocab_size)
            self.targets[(*self.prompt, *tokens[:number])] = warped(logits, self.sampling)

    def _proposal(self, kind: Policy, tokens: Tokens) -> Proposal:
        found = self.proposals.get((kind, tokens))
        if found is None:
            found = kind.propose(self._logits(tokens), len(tokens))
            self.proposals[kind, tokens] = found
        return found

    def _logits(self, tokens: Tokens) -> Row:
        if tokens not in self.logits:
            found = fit_vocabulary(self.pair.draft.logits(tokens), self.pair.vocab_size)
            self.logits[tokens] = found
        return self.logits[tokens]

    def _target(self, tokens: Tokens) -> Warped | Certain:
        found = self.targets.get(tokens)
        if found is None:
            logits = fit_vocabulary(self.pair.target.row(tokens), self.pair.vocab_size)
            found = self.targets[tokens] = warped(logits, self.sampling)
        return found

    def _bias(self, kind: Policy, tokens: Tokens, proposal: Proposal) -> float:
        """The probability with which truncation makes the correction of a token wrong."""
        sent = proposal.draft.distribution
        if not isinstance(sent, TopK):
            return 0.0
        if (kind, tokens) not in self.biases:
            probs = warp(self._logits(tokens), self.sampling)
            target_probs = self._target(tokens).dense()
            self.biases[kind, tokens] = bias(
                probs, target_probs, sent.dense(len(probs)), proposal.draft.token
            )
        return self.biases[kind, tokens]


def _remembering(estimator: Estimator) -> Estimator:
    """Return an estimator that computes once for a row of logits, which must stay in memory, and a token."""
    known: dict[tuple[int, int], float] = {}

    def remembered(logits: Logits, token: int, seed: int, position: int) -> float:
        key = id(logits), token
        if key not in known:
            known[key] = estimator(logits, token, seed, position)
        return known[key]

    return remembered


def replies(
    pair: Pair, settings: Sequence[Setting], number: int, command: HeldOut, seed: int, draw_seed: int
) -> list[Reply]:
    """Return the reply of each setting; all have the same sampling, and `draw_seed` for random numbers."""
    prompt = tuple(pair.prompt(command.command))
    config = agent_config(settings[0], MAX_TOKENS)
    reference = write(pair, replace(config, scheme=FAST_REFERENCE), list(prompt), draw_seed).tokens
    desk = Desk(pair, prompt, draw_seed, choose_sampling(config, pair.info.sampling))
    desk.know(reference)
    found: list[Reply] = []
    distances: dict[Tokens, int] = {reference: 0}
    for setting in settings:
        if setting.scheme == REFERENCE:
            text = Text(reference)
        elif setting.scheme in BY_STATE_MACHINES:
            text = Text(write(pair, agent_config(setting, MAX_TOKENS), list(prompt), draw_seed).tokens)
        else:
            text = desk.text(setting)
        if text.tokens not in distances:
            distances[text.tokens] = edit_distance(text.tokens, reference)
        is_right = command.is_right(pair.text.decode(list(text.tokens)))
        sums = (round(PARTS * each) for each in np.array([text.drift, text.bound, text.bias]).tolist())
        found.append(
            Reply(
                number,
                seed,
                int(is_right),
                distances[text.tokens],
                len(text.tokens),
                text.skipped,
                *sums,
            )
        )
    return found
