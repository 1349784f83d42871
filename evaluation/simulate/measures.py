"""From outcomes to figures: two clocks, bytes, and the worth of the text.

Law: nothing is assumed. The papers' clock is computed from the same events as ours.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from common.sampling.distribution import Sampling, fit_vocabulary, warp
from edge_agent.assembly import choose_sampling
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
class Worth:
    """The worth of the texts; it depends on the channel only for schemes that adapt to it.

    `skipped` is the share of tokens that were never sent to be verified. `truly_skipped` is the share of
    those that the target would have accepted: the mean of 1 - beta with the true beta = max(0, 1 - y_d /
    q_d). `drift` is the sum of beta over the skipped tokens, per token of text: how far skipping moves a
    token's distribution. `same_as_greedy` is the share of replies that equal the target's own greedy reply.
    """

    num_replies: int
    rights: tuple[bool, ...]  # one per reply, in the order of the prompts
    right: float
    same_as_greedy: float
    skipped: float
    truly_skipped: float | None
    drift: float


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
    pair = simulation.pair
    betas = [beta for outcome in outcomes for beta in skipped_betas(simulation, outcome)]
    num_tokens = sum(len(outcome.finals) for outcome in outcomes)
    right = [one.is_right(pair.text.decode(each.tokens)) for one, each in zip(asked, outcomes, strict=True)]
    same = [list(reply) == each.tokens for reply, each in zip(greedy, outcomes, strict=True)]
    return Worth(
        num_replies=len(outcomes),
        rights=tuple(right),
        right=float(np.mean(right)),
        same_as_greedy=float(np.mean(same)),
        skipped=len(betas) / num_tokens,
        truly_skipped=1 - float(np.mean(betas)) if betas else None,
        drift=float(np.sum(betas)) / num_tokens,
    )


def skipped_betas(simulation: Simulation, outcome: Outcome) -> list[float]:
    """Return the true rejection probability of each skipped token."""
    pair, start = simulation.pair, len(outcome.prompt)
    places = [start + i for i, fate in enumerate(outcome.fates) if fate is Fate.LOCAL]
    if not places:
        return []
    tokens = [*outcome.prompt, *outcome.tokens]
    sampling = choose_sampling(simulation.variant.config, pair.info.sampling)
    rows = pair.target.rows(tokens[:-1], len(outcome.finals))
    proposals = simulation.proposals(outcome.seed, outcome.numbers)
    betas: list[float] = []
    for place in places:
        target_probs = warp(fit_vocabulary(rows[place - start], pair.vocab_size), sampling)
        draft_prob = proposals.propose(tokens[:place]).prob
        betas.append(max(0.0, 1.0 - float(target_probs[tokens[place]]) / draft_prob))
    return betas


def greedy_reply(pair: Pair, prompt: Sequence[int], max_tokens: int) -> list[int]:
    """Return the target's own greedy text, including its end mark."""
    tokens = list(prompt)
    limit = min(len(prompt) + max_tokens, pair.max_positions)
    while len(tokens) < limit and (len(tokens) == len(prompt) or tokens[-1] not in pair.eos_ids):
        row = fit_vocabulary(pair.target.row(tokens), pair.vocab_size)
        tokens.append(int(np.argmax(warp(row, Sampling(temperature=0.0)))))
    return tokens[len(prompt) :]
