"""Schemes, truncation, uncertainty: what each scheme draws, decides and sends, as its paper or page says."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from common.sampling.distribution import Dense, Lattice, Sampling, TopK, softmax, top_ids, warp
from common.sampling.randomness import MAX_SEED, Purpose, gumbel_noise, uniform, uniforms
from common.sampling.shares import encode_shares
from edge_agent.policy.online_k import error_weight, expected_rejection, online_k, truncation_errors
from edge_agent.policy.policy import Decision, Policy
from edge_agent.policy.rejection_fit import PUBLISHED_FIT, Fit
from edge_agent.policy.schemes import SCHEMES, Form, Gate
from edge_agent.policy.uncertainty import (
    ESTIMATORS,
    MAX_TEMPERATURE,
    MIN_TEMPERATURE,
    NUM_TEMPERATURES,
    Estimator,
    perturbation_mean,
    perturbation_vote,
)
from tests.support.narrowing import expect, present

SIZE = 40
CERTAIN, UNCERTAIN = 0.0, 1.0


def logits_of(seed: int, size: int = SIZE, scale: float = 2.0) -> np.ndarray:
    return (np.random.default_rng(seed).normal(size=size) * scale).astype(np.float32)


def policy(
    scheme: str, *, temperature: float = 1.0, uncertainty: float | None = None, **numbers: float
) -> Policy:
    """The scheme with its default threshold, and an estimator that always says `uncertainty`."""
    row = SCHEMES[scheme]
    usual = Policy(row, Sampling(temperature), seed=1, threshold=row.threshold)
    if uncertainty is not None:
        usual = replace(usual, estimator=always(uncertainty))
    return replace(usual, **numbers)


def always(uncertainty: float) -> Estimator:
    """An estimator that does not look."""

    def estimate(*_: object) -> float:
        return uncertainty

    return estimate


def independence(table: np.ndarray) -> float:
    """The p-value of the table if its rows and columns are independent."""
    found: Any = stats.chi2_contingency(table)  # scipy makes its type while it runs
    return found.pvalue


# -- what is drawn, and what is sent -------------------------------------------------------------------

FORMS = {
    "slm": type(None),
    "hlm": Dense,
    "rand-hlm": Dense,
    "u-hlm": Dense,
    "cu-hlm-offline": TopK,
    "cu-hlm-online": TopK,
    "opportunistic": Lattice,
    "lossless": Lattice,
    "coupled": type(None),
    "auto": type(None),
}


@pytest.mark.parametrize("scheme", FORMS)
def test_every_scheme_sends_its_form(scheme: str) -> None:
    proposal = policy(scheme).propose(logits_of(1), 5)
    assert type(proposal.draft.distribution) is FORMS[scheme]


@pytest.mark.parametrize("scheme", FORMS)
def test_greedy_sends_no_distribution_and_takes_the_largest_logit(scheme: str) -> None:
    logits = logits_of(2)
    proposal = policy(scheme, temperature=0.0).propose(logits, 5)
    assert proposal.draft.distribution is None
    assert proposal.draft.token == int(np.argmax(logits))
    assert proposal.prob == 1.0


@pytest.mark.parametrize("scheme", FORMS)
@given(
    seed=st.integers(0, 2**64 - 1), position=st.integers(0, 10**6), temperature=st.sampled_from([0.0, 0.7])
)
@settings(max_examples=20)
def test_the_same_logits_seed_and_position_give_the_same_proposal(
    scheme: str, seed: int, position: int, temperature: float
) -> None:
    logits = logits_of(seed % 97)
    first, again = (
        policy(scheme, seed=seed, temperature=temperature).propose(logits.copy(), position) for _ in range(2)
    )
    assert (first.draft.token, first.prob, first.uncertainty, first.decision) == (
        again.draft.token,
        again.prob,
        again.uncertainty,
        again.decision,
    )


@pytest.mark.parametrize("scheme", ["hlm", "u-hlm", "lossless", "opportunistic"])
def test_tokens_are_drawn_from_exactly_what_is_sent(scheme: str) -> None:
    logits = logits_of(3, size=12)
    proposals = [policy(scheme, max_ids=5).propose(logits, position) for position in range(4000)]
    sent = present(proposals[0].draft.distribution)
    assert all(
        np.array_equal(present(one.draft.distribution).dense(12), sent.dense(12)) for one in proposals[:50]
    )
    counts = np.bincount([one.draft.token for one in proposals], minlength=12)
    expected = sent.dense(12) * len(proposals)
    assert counts[expected == 0].sum() == 0
    assert stats.chisquare(counts[expected > 0], expected[expected > 0]).pvalue > 0.001


@pytest.mark.parametrize("scheme", ["hlm", "rand-hlm", "u-hlm", "lossless", "opportunistic"])
def test_where_rounding_changes_the_draw_the_rounded_distribution_draws_the_token(scheme: str) -> None:
    logits = logits_of(3, size=400, scale=1.0)
    each = policy(scheme, max_ids=400)
    exact = warp(logits, Sampling(1.0))
    sent = each.propose(logits, 0).draft.distribution
    assert isinstance(sent, Dense | Lattice)
    numbers = [uniform(each.seed, position, Purpose.DRAFT) for position in range(20_000)]
    drawn_exactly = np.searchsorted(np.cumsum(exact), numbers, side="right")
    expected = np.array([sent.draw(number) for number in numbers])
    differing = np.flatnonzero(drawn_exactly != expected)
    assert len(differing) > 10
    for position in map(int, differing[:100]):
        assert each.propose(logits, position).draft.token == expected[position]


@pytest.mark.parametrize("scheme", ["hlm", "rand-hlm", "u-hlm", "lossless", "opportunistic"])
def test_a_tokens_probability_is_that_of_the_rounded_distribution_and_not_of_the_exact_one(
    scheme: str,
) -> None:
    logits = logits_of(3, size=400, scale=1.0)
    exact = warp(logits, Sampling(1.0))
    for position in range(20):
        proposal = policy(scheme).propose(logits, position)
        token, sent = proposal.draft.token, present(proposal.draft.distribution)
        assert proposal.prob == sent.dense(400)[token] != exact[token]


@pytest.mark.parametrize("scheme", ["slm", "coupled", "cu-hlm-offline", "cu-hlm-online"])
def test_the_probability_of_a_token_drawn_from_the_exact_distribution_is_the_exact_one(scheme: str) -> None:
    logits = logits_of(3, size=400, scale=1.0)
    for position in range(20):
        proposal = policy(scheme, max_ids=4).propose(logits, position)
        assert proposal.prob == softmax(logits)[proposal.draft.token]


@pytest.mark.parametrize("scheme", ["slm", "cu-hlm-offline", "cu-hlm-online"])
def test_the_papers_own_order_draws_from_the_untruncated_distribution(scheme: str) -> None:
    logits = logits_of(3, size=12)
    tokens = [policy(scheme, max_ids=2).propose(logits, position).draft.token for position in range(4000)]
    expected = warp(logits, Sampling(1.0)) * len(tokens)
    assert stats.chisquare(np.bincount(tokens, minlength=12), expected).pvalue > 0.001


def test_the_coupled_token_is_the_largest_after_the_shared_noise() -> None:
    logits = logits_of(4)
    for position in range(50):
        expected = np.argmax(np.log(warp(logits, Sampling(1.0))) + gumbel_noise(9, position, SIZE))
        assert policy("coupled", seed=9).propose(logits, position).draft.token == expected


@given(st.integers(0, 1000), st.integers(1, 60), st.sampled_from([256, 65536]))
def test_a_lattice_has_at_most_k_ids_and_sums_to_the_resolution(seed: int, k: int, resolution: int) -> None:
    proposal = policy("lossless", max_ids=k, resolution=resolution).propose(logits_of(seed), 3)
    lattice = expect(Lattice, proposal.draft.distribution)
    assert len(lattice.ids) <= k
    assert lattice.total == resolution
    assert (lattice.counts > 0).all()
    assert set(lattice.ids.tolist()) <= set(top_ids(softmax(logits_of(seed)), k).tolist())


@given(st.integers(0, 1000), st.integers(1, 60))
def test_cu_hlm_offline_sends_the_k_most_probable_and_the_draft_tokens_own_probability(
    seed: int, k: int
) -> None:
    logits = logits_of(seed)
    probs = softmax(logits)
    proposal = policy("cu-hlm-offline", max_ids=k).propose(logits, 3)
    sent = expect(TopK, proposal.draft.distribution)
    assert sent.ids.tolist() == top_ids(probs, k).tolist()
    assert len(sent.ids) == min(k, SIZE)
    assert sent.codes.tolist() == encode_shares(probs[sent.ids]).tolist()
    assert sent.dense(SIZE)[sent.ids] == pytest.approx(probs[sent.ids], abs=0.005)
    assert sent.draft_prob == proposal.prob == probs[proposal.draft.token]


def test_cu_hlm_online_sends_as_many_as_its_rule_says() -> None:
    for seed in range(30):
        logits = logits_of(seed)
        proposal = policy("cu-hlm-online", theta=0.1).propose(logits, 3)
        k = online_k(softmax(logits), proposal.prob, proposal.uncertainty, theta=0.1)
        assert len(expect(TopK, proposal.draft.distribution).ids) == k


def test_the_warping_of_the_sampling_applies_to_what_is_sent() -> None:
    only_two = Policy(SCHEMES["lossless"], Sampling(1.0, top_k=2), seed=1, threshold=0.5)
    sent = only_two.propose(logits_of(1), 3).draft.distribution
    assert len(expect(Lattice, sent).ids) == 2


# -- what is decided -----------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", FORMS)
@pytest.mark.parametrize("uncertainty", [CERTAIN, UNCERTAIN])
def test_every_gate_decides_as_the_table_says(scheme: str, uncertainty: float) -> None:
    row = SCHEMES[scheme]
    decision = policy(scheme, uncertainty=uncertainty).propose(logits_of(1), 5).decision
    match row.gate:
        case Gate.NEVER:
            assert decision is Decision.SKIP
        case Gate.ALWAYS:
            assert decision is Decision.UPLINK
        case Gate.COIN:
            assert decision in (Decision.SKIP, Decision.UPLINK)
        case Gate.UNCERTAIN:
            rest = Decision.HOLD if row.holds else Decision.SKIP
            assert decision is (Decision.UPLINK if uncertainty == UNCERTAIN else rest)


def test_a_token_exactly_at_the_threshold_is_skipped() -> None:
    for uncertainty, decision in ((0.43, Decision.SKIP), (0.4301, Decision.UPLINK)):
        proposal = policy("u-hlm", uncertainty=uncertainty, threshold=0.43).propose(logits_of(1), 5)
        assert proposal.decision is decision


def test_only_the_lossless_schemes_hold_tokens_back() -> None:
    assert {name for name, row in SCHEMES.items() if row.holds} == {"lossless", "coupled", "auto"}


def test_the_schemes_that_skip_certain_tokens_are_those_whose_threshold_decides_about_the_text() -> None:
    assert {name for name, row in SCHEMES.items() if row.skips_certain} == {
        "u-hlm",
        "cu-hlm-offline",
        "cu-hlm-online",
        "opportunistic",
    }


def test_rand_hlm_sends_the_share_it_is_told_whatever_the_uncertainty() -> None:
    for share in (0.0, 0.25, 0.9, 1.0):
        tossed = policy("rand-hlm", uplink_probability=share)
        sent = sum(tossed.propose(logits_of(1), i).decision is Decision.UPLINK for i in range(2000))
        assert stats.binomtest(sent, 2000, share).pvalue > 0.001 if 0 < share < 1 else sent == 2000 * share


def test_rand_hlms_coin_does_not_know_the_token() -> None:
    tossed = policy("rand-hlm", uplink_probability=0.5)
    proposals = [tossed.propose(logits_of(1, size=4, scale=0.5), i) for i in range(4000)]
    table = np.zeros((2, 4))
    for one in proposals:
        table[int(one.decision is Decision.UPLINK), one.draft.token] += 1
    assert independence(table) > 0.001


def test_every_scheme_that_sends_anything_has_a_row_here() -> None:
    assert set(SCHEMES) == {*FORMS, "llm"}
    assert not SCHEMES["llm"].drafts
    assert SCHEMES["slm"].form is Form.NOTHING


# -- uncertainty ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ESTIMATORS)
@given(
    seed=st.integers(0, 10**6), size=st.integers(2, 100), scale=st.sampled_from([0.0, 0.1, 3.0, 100.0, 1e4])
)
@settings(max_examples=40)
def test_every_estimate_lies_between_0_and_1(name: str, seed: int, size: int, scale: float) -> None:
    logits = logits_of(seed, size, scale)
    for token in (int(np.argmax(logits)), int(np.argmin(logits))):
        assert -1e-6 <= ESTIMATORS[name](logits, token, seed, 3) <= 1 + 1e-6


@pytest.mark.parametrize("name", ESTIMATORS)
def test_every_estimate_is_near_0_when_sure_and_large_when_lost(name: str) -> None:
    sure, lost = np.zeros(100, np.float32), np.zeros(100, np.float32)
    sure[7] = 60.0
    assert ESTIMATORS[name](sure, 7, 1, 1) == pytest.approx(0.0, abs=1e-3)
    assert ESTIMATORS[name](lost, 7, 1, 1) > 0.8


def test_entropy_doubt_and_margin_are_what_their_names_say() -> None:
    logits = np.log(np.array([0.125, 0.5, 0.25, 0.125]))
    assert ESTIMATORS["entropy"](logits, 0, 1, 1) == pytest.approx(1.75 / 2)  # bits, of two bits
    assert ESTIMATORS["max-probability"](logits, 0, 1, 1) == pytest.approx(0.5)
    assert ESTIMATORS["margin"](logits, 0, 1, 1) == pytest.approx(0.75)


@pytest.mark.parametrize("name", ESTIMATORS)
def test_impossible_tokens_do_not_disturb_an_estimate(name: str) -> None:
    logits = np.append(logits_of(1), [-np.inf, -np.inf]).astype(np.float32)
    token = int(np.argmax(logits))
    with np.errstate(all="raise", under="ignore"):
        assert 0.0 <= ESTIMATORS[name](logits, token, 1, 1) <= 1.0


def expected_vote(logits: np.ndarray, token: int, points: int = 20_000) -> float:
    """1 - the mean of softmax(logits / theta)[token] over the range of theta, by a fine midpoint rule."""
    thetas = MIN_TEMPERATURE + (MAX_TEMPERATURE - MIN_TEMPERATURE) * (np.arange(points) + 0.5) / points
    shifted = (logits.astype(np.float64) - logits.max())[None] / thetas[:, None]
    weights = np.exp(shifted)
    return float(1 - (weights[:, token] / weights.sum(axis=1)).mean())


@pytest.mark.parametrize("rank", [0, 1, 5])
def test_the_mean_of_the_votes_over_seeds_is_their_expectation(rank: int) -> None:
    logits = logits_of(6, size=12)
    token = int(np.argsort(-logits)[rank])
    votes = np.array([perturbation_vote(logits, token, seed, 7) for seed in range(2000)])
    expected = expected_vote(logits, token)
    assert votes.mean() == pytest.approx(expected, abs=4 * votes.std() / np.sqrt(len(votes)) + 1e-9)
    # the draws of one vote are independent, so its variance is a binomial's
    bound = expected * (1 - expected) / NUM_TEMPERATURES
    assert votes.var() == pytest.approx(bound, rel=0.15)


@pytest.mark.parametrize("scale", [0.5, 2.0, 8.0])
def test_the_noise_free_form_takes_the_middles_of_twenty_equal_parts_from_0_05_to_2(scale: float) -> None:
    logits = logits_of(6, scale=scale).astype(np.float64)
    thetas = [0.05 + 1.95 * (part + 0.5) / 20 for part in range(20)]
    for token in range(SIZE):
        kept = [softmax(logits, theta)[token] for theta in thetas]
        assert perturbation_mean(logits, token) == pytest.approx(1.0 - np.mean(kept), abs=1e-6)


@given(st.integers(0, 1000), st.integers(0, SIZE - 1))
def test_the_noise_free_form_is_the_expectation_of_the_vote(seed: int, token: int) -> None:
    logits = logits_of(seed)
    # twenty points instead of the integral: most of the error lies at the coldest temperatures
    assert perturbation_mean(logits, token) == pytest.approx(expected_vote(logits, token, 2000), abs=0.03)


def test_tossing_coins_has_the_law_of_redrawing_tokens() -> None:
    """The papers redraw tokens at random temperatures and count those that differ; the vote tosses coins."""
    logits = logits_of(8, size=12)
    token = int(np.argsort(-logits)[1])
    generator = np.random.default_rng(0)
    thetas = generator.uniform(MIN_TEMPERATURE, MAX_TEMPERATURE, size=(3000, NUM_TEMPERATURES, 1))
    noise = generator.gumbel(size=(3000, NUM_TEMPERATURES, 12))
    redrawn = np.argmax(logits / thetas + noise, axis=2)
    simulated = (redrawn != token).sum(axis=1)
    tossed = [round(NUM_TEMPERATURES * perturbation_vote(logits, token, s, 0)) for s in range(3000)]
    pooled = np.stack([np.bincount(each, minlength=NUM_TEMPERATURES + 1) for each in (simulated, tossed)])
    pooled = pooled[:, pooled.sum(axis=0) > 20]
    assert independence(pooled) > 0.001


def test_a_vote_is_a_multiple_of_a_twentieth_and_depends_on_seed_and_position() -> None:
    logits = logits_of(8, size=12)
    votes = {perturbation_vote(logits, 3, seed, position) for seed in range(20) for position in range(5)}
    assert all(round(vote * NUM_TEMPERATURES, 6).is_integer() for vote in votes)
    assert len(votes) > 2
    assert perturbation_vote(logits, 3, 5, 6) == perturbation_vote(logits, 3, 5, 6)


def test_the_perturbation_uses_numbers_of_its_own() -> None:
    assert not set(uniforms(1, 2, Purpose.PERTURB, 40)) & set(uniforms(1, 2, Purpose.DRAFT, 40))


@given(seed=st.integers(0, MAX_SEED), position=st.integers(0, 2**31), purpose=st.sampled_from(Purpose))
def test_one_number_is_the_first_of_many(seed: int, position: int, purpose: Purpose) -> None:
    assert uniform(seed, position, purpose) == uniforms(seed, position, purpose, 3)[0]


# -- CU-HLM's number of probabilities ------------------------------------------------------------------


def naive_errors(probs: np.ndarray) -> list[float]:
    """For k = 1 .. |V| - 1 the error of a tail spread evenly, term by term."""
    ordered = sorted(probs.tolist(), reverse=True)
    errors: list[float] = []
    for k in range(1, len(ordered)):
        mean = (1.0 - sum(ordered[:k])) / (len(ordered) - k)
        errors.append(sum(abs(ordered[i] - mean) for i in range(k, len(ordered))))
    return errors


def naive_k(probs: np.ndarray, draft_prob: float, uncertainty: float, theta: float) -> int:
    """Equation 26, term by term."""
    beta = min(1.0, max(0.0, 0.815 * uncertainty - 0.066))
    softplus_at_1, softplus_at_beta = np.log(1 + np.exp(-1.0)), np.log(1 + np.exp(-beta))
    weight = (1 - draft_prob) * softplus_at_1 + draft_prob * softplus_at_beta
    for k, error in enumerate(naive_errors(probs), start=1):
        if error / weight <= theta:
            return k
    return len(probs)


truncations = st.tuples(st.integers(0, 10**6), st.integers(2, 50), st.sampled_from([0.2, 1.0, 3.0, 8.0]))


@given(truncations)
def test_the_truncation_errors_are_those_computed_term_by_term(case: tuple[int, int, float]) -> None:
    probs = softmax(logits_of(*case))
    assert truncation_errors(np.sort(probs)[::-1]) == pytest.approx(naive_errors(probs), abs=1e-12)


@given(truncations, st.floats(0, 1), st.floats(0.001, 1))
@settings(max_examples=200)
def test_online_k_is_the_least_that_equation_26_allows(
    case: tuple[int, int, float], uncertainty: float, theta: float
) -> None:
    probs = softmax(logits_of(*case))
    draft_prob = float(probs[case[0] % len(probs)])
    expected = naive_k(probs, draft_prob, uncertainty, theta)
    assert online_k(probs, draft_prob, uncertainty, theta=theta) == expected


def test_the_weight_of_equation_26_is_the_softplus_mixed_by_the_draft_tokens_probability() -> None:
    at_0, at_half, at_1 = (float(np.log(1 + np.exp(-value))) for value in (0.0, 0.5, 1.0))
    assert error_weight(1.0, 0.0) == pytest.approx(at_0) == pytest.approx(0.693, abs=1e-3)
    assert error_weight(1.0, 1.0) == error_weight(0.0, 0.3) == pytest.approx(at_1)
    assert error_weight(0.25, 0.5) == pytest.approx(0.75 * at_1 + 0.25 * at_half)


def test_online_k_rises_with_the_uncertainty_of_a_probable_token() -> None:
    """The weight of eq. 26 falls from l(0) = 0.69 to l(-1) = 0.31, so about half the error is allowed."""
    probs = softmax(logits_of(5, 200))
    found = [online_k(probs, 0.9, uncertainty, theta=0.1) for uncertainty in (0.0, 0.3, 0.6, 1.0)]
    assert found == [naive_k(probs, 0.9, uncertainty, 0.1) for uncertainty in (0.0, 0.3, 0.6, 1.0)]
    assert found == sorted(set(found))


def test_cu_hlm_online_sends_more_for_an_uncertain_token_and_follows_the_line_that_it_is_given() -> None:
    logits = logits_of(4, 200)
    logits[7] = logits.max() + 4.0
    position = next(p for p in range(50) if policy("cu-hlm-online").propose(logits, p).draft.token == 7)

    def num_sent(uncertainty: float, fit: Fit = PUBLISHED_FIT) -> int:
        each = replace(policy("cu-hlm-online", uncertainty=uncertainty, theta=0.02), fit=fit)
        return len(expect(TopK, each.propose(logits, position).draft.distribution).ids)

    assert num_sent(0.0) < num_sent(0.5) < num_sent(1.0)
    assert num_sent(1.0, Fit(0.0, 0.0)) == num_sent(0.0)


def test_online_k_falls_as_the_tolerance_rises() -> None:
    probs = softmax(logits_of(5, 200))
    found = [online_k(probs, 0.1, 0.5, theta=theta) for theta in (0.001, 0.01, 0.1, 0.5, 1.0)]
    assert found == sorted(found, reverse=True)
    assert found[0] > found[-1]


def test_online_k_of_a_certain_and_of_an_even_distribution_is_one() -> None:
    peaked = np.zeros(50)
    peaked[3] = 1.0
    assert online_k(peaked, 1.0, 0.0, theta=0.1) == 1
    assert online_k(np.full(50, 1 / 50), 0.02, 1.0, theta=0.1) == 1


def test_the_expected_rejection_is_the_papers_line_within_0_and_1() -> None:
    assert expected_rejection(0.5) == pytest.approx(0.815 * 0.5 - 0.066)
    assert expected_rejection(0.0) == 0.0
    assert expected_rejection(1.5) == 1.0


def test_a_line_gives_the_rejection_at_an_uncertainty_and_back() -> None:
    line = Fit(0.8, -0.04)
    assert [line.rejection(u) for u in (0.0, 0.05, 0.3, 1.0)] == pytest.approx([0.0, 0.0, 0.2, 0.76])
    assert [line.uncertainty_at(b) for b in (0.0, 0.2, 0.76, 2.0)] == pytest.approx([0.05, 0.3, 1.0, 1.0])
    assert line.risk_averse == pytest.approx(0.05)
    assert Fit(2.0, 0.5).rejection(0.9) == 1.0
    assert Fit(2.0, 0.5).uncertainty_at(0.1) == 0.0


def test_where_uncertainty_predicts_nothing_all_is_skipped_or_none() -> None:
    for slope in (0.0, -0.5):
        flat = Fit(slope, 0.1)
        assert [flat.uncertainty_at(rejection) for rejection in (0.09, 0.1, 0.11)] == [0.0, 1.0, 1.0]
