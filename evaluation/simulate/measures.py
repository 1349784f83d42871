"""From outcomes to figures: two clocks, bytes, and the worth of the text.

Law: nothing is assumed. The papers' clock is computed from the same events as ours.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from cloud_worker.session.verification import residual
from common.sampling.distribution import Sampling, fit_vocabulary, warp
from common.sampling.randomness import FloatArray
from edge_agent.policy.schemes import Form
from edge_agent.session.transcript import Fate
from evaluation.models.pair import Pair
from evaluation.simulate.running import Simulation
from evaluation.simulate.world.device import Outcome
from evaluation.smart_home.held_out import HeldOut


@dataclass(frozen=True, slots=True)
class Speed:
    """Over all tokens of all generations; bytes as the world's accounting counts them."""

    tokens_per_second: float  # tokens over total time
    papers_rate: float  # the mean over tokens of 1 / delay
    bytes_up: float  # per token
    bytes_down: float  # per token
    uplinks: float  # per token
    answers: float  # per token: how often the target model answers
    bytes_per_sent: float | None  # per draft token that was sent to be verified
    payload_up: float  # per token: what the codec wrote, without headers
    first_token: float  # mean seconds


@dataclass(frozen=True, slots=True)
class Reply:
    """What one text is worth, with its sums over tokens; `beta` is max(0, 1 - y_d / q_d).

    `drift` sums beta over the skipped tokens, and `bound` what the papers' line expects of it, max(0, a u +
    b): their risk R(u_th). `truncation` sums, over the tokens that were verified, how far CU-HLM's truncation
    moves the law of a verified token from the target's. It is 0 for every other scheme.
    """

    num_tokens: int
    is_right: bool
    is_greedy: bool  # equal to the target's own greedy reply
    num_skipped: int
    drift: float
    bound: float
    truncation: float


@dataclass(frozen=True, slots=True)
class Worth:
    """The worth of the texts; it depends on the channel only for schemes that adapt to it.

    `skipped` is the share of tokens that were never sent to be verified. `truly_skipped` is the share of
    those that the target would have accepted: the mean of 1 - beta. `drift`, `bound` and `truncation` are
    those of `Reply`, per token of text. `same_as_greedy` is the share of replies that equal the target's own
    greedy reply.
    """

    replies: tuple[Reply, ...]  # in the order of the prompts

    @property
    def num_replies(self) -> int:
        """The number of texts."""
        return len(self.replies)

    @property
    def num_tokens(self) -> int:
        """The number of tokens of all texts."""
        return sum(one.num_tokens for one in self.replies)

    @property
    def right(self) -> float:
        """The share of replies that are exactly right."""
        return sum(one.is_right for one in self.replies) / len(self.replies)

    @property
    def same_as_greedy(self) -> float:
        """The share of replies that are the target's greedy reply."""
        return sum(one.is_greedy for one in self.replies) / len(self.replies)

    @property
    def skipped(self) -> float:
        """The share of tokens that were not verified."""
        return sum(one.num_skipped for one in self.replies) / self.num_tokens

    @property
    def truly_skipped(self) -> float | None:
        """The share of the skipped tokens that the target would have accepted."""
        num_skipped = sum(one.num_skipped for one in self.replies)
        return 1 - sum(one.drift for one in self.replies) / num_skipped if num_skipped else None

    @property
    def drift(self) -> float:
        """The rejection mass that was skipped, per token."""
        return sum(one.drift for one in self.replies) / self.num_tokens

    @property
    def bound(self) -> float:
        """The papers' R(u_th), per token."""
        return sum(one.bound for one in self.replies) / self.num_tokens

    @property
    def truncation(self) -> float:
        """What CU-HLM's truncation adds to the drift, per token."""
        return sum(one.truncation for one in self.replies) / self.num_tokens


def speed(outcomes: Sequence[Outcome]) -> Speed:
    """Compute both clocks and the traffic."""
    num_tokens = sum(len(outcome.finals) for outcome in outcomes)
    num_up = sum(outcome.tally.num_uplinks for outcome in outcomes)
    num_sent = sum(outcome.traffic.num_sent for outcome in outcomes)
    bytes_up = sum(outcome.traffic.bytes_up for outcome in outcomes)
    return Speed(
        tokens_per_second=num_tokens / sum(outcome.seconds for outcome in outcomes),
        papers_rate=float(np.mean([1 / delay for outcome in outcomes for delay in token_delays(outcome)])),
        bytes_up=bytes_up / num_tokens,
        bytes_down=sum(outcome.traffic.bytes_down for outcome in outcomes) / num_tokens,
        uplinks=num_up / num_tokens,
        answers=sum(outcome.traffic.num_down for outcome in outcomes) / num_tokens,
        bytes_per_sent=bytes_up / num_sent if num_sent else None,
        payload_up=sum(outcome.traffic.payload_bytes for outcome in outcomes) / num_tokens,
        first_token=float(np.mean([outcome.times[0] for outcome in outcomes])),
    )


def token_delays(outcome: Outcome) -> list[float]:
    """Return the seconds of each token as the papers count them: since the previous token.

    Tokens that become final at the same moment share the time since the previous moment equally. For the
    papers' schemes, which go token by token, this is their tau_SLM (+ tau_up + tau_LLM if the token was
    sent).
    """
    delays: list[float] = []
    before = 0.0
    for moment, group in groupby(outcome.times):
        count = len(list(group))
        delays += [(moment - before) / count] * count
        before = moment
    return delays


def worth(
    simulation: Simulation,
    outcomes: Sequence[Outcome],
    asked: Sequence[HeldOut],
    greedy: Sequence[Sequence[int]],
) -> Worth:
    """Score the texts; `greedy` are the target's own greedy replies to `asked`, one per outcome."""
    scored = zip(outcomes, asked, greedy, strict=True)
    return Worth(tuple(_reply(simulation, outcome, one, reply) for outcome, one, reply in scored))


def _reply(simulation: Simulation, outcome: Outcome, asked: HeldOut, greedy: Sequence[int]) -> Reply:
    skipped = skipped_tokens(simulation, outcome)
    return Reply(
        num_tokens=len(outcome.finals),
        is_right=asked.is_right(simulation.pair.text.decode(outcome.tokens)),
        is_greedy=list(greedy) == outcome.tokens,
        num_skipped=len(skipped),
        drift=sum(beta for beta, _ in skipped),
        bound=sum(simulation.fit.rejection(uncertainty) for _, uncertainty in skipped),
        truncation=sum(truncation_drifts(simulation, outcome)),
    )


def skipped_tokens(simulation: Simulation, outcome: Outcome) -> list[tuple[float, float]]:
    """Return the true rejection probability and the uncertainty of each skipped token."""
    found: list[tuple[float, float]] = []
    proposals = simulation.proposals(outcome.seed, outcome.numbers)
    tokens = [*outcome.prompt, *outcome.tokens]
    for place, target_probs in judged(simulation, outcome, skipped=True):
        proposal = proposals.propose(tokens[:place])
        beta = max(0.0, 1.0 - float(target_probs[tokens[place]]) / proposal.prob)
        found.append((beta, proposal.uncertainty))
    return found


def truncation_drifts(simulation: Simulation, outcome: Outcome) -> list[float]:
    """Return the drift of each verified token by CU-HLM's truncation, as if all its drafts were verified."""
    if simulation.variant.scheme.form is not Form.TOP_K:
        return []
    found: list[float] = []
    proposals = simulation.proposals(outcome.seed, outcome.numbers)
    tokens, size = [*outcome.prompt, *outcome.tokens], simulation.pair.vocab_size
    for place, target_probs in judged(simulation, outcome, skipped=False):
        sent = proposals.propose(tokens[:place]).draft.distribution
        if sent is not None:
            logits = fit_vocabulary(simulation.pair.draft.logits(tokens[:place]), size)
            draft_probs = warp(logits, simulation.sampling)
            found.append(truncation_drift(draft_probs, sent.dense(size), target_probs))
    return found


def truncation_drift(draft_probs: FloatArray, sent: FloatArray, target_probs: FloatArray) -> float:
    """Return TV(law, target) of a token drawn from `draft_probs` and corrected by what was `sent` of them.

    All [vocab_size]. The draft token stands with probability min(1, y_d / x_d); otherwise the token is drawn
    from norm((y - x^)+). Where all of x is sent the law is the target's, and the drift is 0.
    """
    kept = np.minimum(draft_probs, target_probs)
    law = kept + (1.0 - float(kept.sum())) * residual(target_probs, sent)
    return float(np.abs(law - target_probs).sum() / 2)


def judged(simulation: Simulation, outcome: Outcome, *, skipped: bool) -> Iterator[tuple[int, FloatArray]]:
    """Return the places of the skipped tokens, or of the verified ones, with the target_probs there."""
    pair, start = simulation.pair, len(outcome.prompt)
    places = [start + i for i, fate in enumerate(outcome.fates) if (fate is Fate.LOCAL) == skipped]
    if not places:
        return
    rows = pair.target.rows([*outcome.prompt, *outcome.tokens][:-1], len(outcome.finals))
    for place in places:
        yield place, warp(fit_vocabulary(rows[place - start], pair.vocab_size), simulation.sampling)


def greedy_reply(pair: Pair, prompt: Sequence[int], max_tokens: int) -> list[int]:
    """Return the target's own greedy text, including its end mark."""
    tokens = list(prompt)
    limit = min(len(prompt) + max_tokens, pair.max_positions)
    while len(tokens) < limit and (len(tokens) == len(prompt) or tokens[-1] not in pair.eos_ids):
        row = fit_vocabulary(pair.target.row(tokens), pair.vocab_size)
        tokens.append(int(np.argmax(warp(row, Sampling(temperature=0.0)))))
    return tokens[len(prompt) :]
