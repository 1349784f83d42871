"""Ids that are worth their bytes: the cheapest choice, and exact because it does not see the token."""

from math import comb, log2

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud_worker.session.verification import verify_block
from common.sampling.distribution import Lattice, Sampling, quantise, softmax
from edge_agent.policy.cheapest_k import MAX_CHOSEN, cheapest_num_ids, message_bytes
from edge_agent.policy.policy import Policy
from edge_agent.policy.schemes import SCHEMES
from tests.edge_agent.test_policy import logits_of
from tests.support.narrowing import expect, present

SIZE, TOTAL = 40, 256
prices = st.floats(1e-6, 0.5)


def chosen(seed: int, price: float, scheme: str = "lossless") -> Policy:
    return Policy(SCHEMES[scheme], Sampling(1.0), seed, threshold=0.5, max_ids=0, byte_price=price)


def test_bytes_are_the_information_in_ids_and_counts() -> None:
    expected = (log2(comb(32000, 30)) + log2(comb(255, 29))) / 8
    assert message_bytes(32000, 256)[29] == pytest.approx(expected)
    assert 57 < expected < 60


@given(st.integers(0, 999), prices)
def test_the_choice_is_the_cheapest(seed: int, price: float) -> None:
    probs = softmax(logits_of(seed, SIZE))
    descending = np.sort(probs)[::-1]
    costs = [
        message_bytes(SIZE, TOTAL)[k - 1] * price + max(0.0, 1.0 - descending[:k].sum())
        for k in range(1, SIZE + 1)
    ]
    k = cheapest_num_ids(probs, TOTAL, price)
    assert costs[k - 1] == pytest.approx(min(costs))


@given(st.integers(0, 999))
def test_dearer_bytes_never_send_more_ids(seed: int) -> None:
    probs = softmax(logits_of(seed, 500, scale=1.0))
    ks = [cheapest_num_ids(probs, TOTAL, price) for price in (0.0, 1e-5, 1e-3, 1e-2, 1.0)]
    assert ks == sorted(ks, reverse=True)
    assert ks[0] == MAX_CHOSEN
    assert ks[-1] == 1


def test_a_sure_model_sends_one_id_and_an_unsure_one_more() -> None:
    sure, unsure = softmax(logits_of(1, SIZE, scale=30.0)), softmax(logits_of(1, SIZE, scale=0.5))
    assert cheapest_num_ids(sure, TOTAL, 1e-3) < cheapest_num_ids(unsure, TOTAL, 1e-3)


@pytest.mark.parametrize("scheme", ["lossless", "opportunistic"])
@pytest.mark.parametrize("price", [1e-4, 3e-3, 3e-2])
def test_whatever_is_drawn_the_same_ids_are_sent(scheme: str, price: float) -> None:
    """The one condition for exactness: at a prefix there is one q, which the draw does not change."""
    logits = logits_of(3, SIZE, scale=1.0)
    sent: dict[tuple[tuple[int, ...], tuple[int, ...]], bool] = {}
    for seed in range(200):
        proposal = chosen(seed, price, scheme).propose(logits, 7)
        distribution = expect(Lattice, proposal.draft.distribution)
        sent[tuple(distribution.ids), tuple(distribution.counts)] = True
    assert len(sent) == 1


@given(st.integers(0, 999), st.integers(0, 999), prices)
def test_the_verified_token_has_exactly_the_targets_law(
    draft_seed: int, target_seed: int, price: float
) -> None:
    """Summed over all draft tokens: q_d [accept 1_d + (1 - accept) residual] = y."""
    target = softmax(logits_of(target_seed, SIZE))
    proposal = chosen(1, price).propose(logits_of(draft_seed, SIZE), 7)
    sent = present(proposal.draft.distribution).dense(SIZE)
    accepted = np.minimum(sent, target)
    residual = np.maximum(target - sent, 0.0)
    law = accepted + (1.0 - accepted.sum()) * residual / max(residual.sum(), 1e-300)
    assert np.abs(law - target).max() < 1e-9


def test_20000_seeds_follow_the_targets_law_through_the_real_verification() -> None:
    draft_logits, target = logits_of(5, 12), softmax(logits_of(6, 12))
    counts = np.zeros(12)
    for seed in range(20_000):
        proposal = chosen(seed, 0.02).propose(draft_logits, 3)
        verdict = verify_block(lambda _: target, (proposal.draft,), seed=seed, position=3, bonus=False)
        counts[proposal.draft.token if verdict.num_accepted else verdict.token] += 1
    expected = target * counts.sum()
    assert ((counts - expected) ** 2 / expected).sum() < 40  # chi-square with 11 degrees: p below 1e-4


def test_a_k_that_looked_at_the_token_would_be_biased() -> None:
    """Why the law is there: the ids are one, or all where the most probable token was not drawn."""
    draft, target = softmax(logits_of(5, 12)), softmax(logits_of(6, 12))
    best = int(np.argmax(draft))
    law = np.zeros(12)
    for token in range(12):
        sent = quantise(draft, 1 if token == best else 12, 65536).dense(12)
        accepted = min(1.0, target[token] / sent[token])
        residual = np.maximum(target - sent, 0.0)
        law += draft[token] * (1.0 - accepted) * residual / residual.sum()
        law[token] += draft[token] * accepted
    assert np.abs(law - target).max() > 0.01
