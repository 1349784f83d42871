"""The laws of docs/method.md, computed by summing over tokens instead of sampling where that is possible."""

from collections.abc import Iterator
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from cloud_worker.session.verification import (
    accept_probability,
    residual,
    target_choice,
    verify_block,
    verify_token,
)
from common.protocol.messages import DraftToken
from common.sampling.distribution import (
    NUCLEUS_HEAD,
    Lattice,
    Sampling,
    TopK,
    densify,
    quantise,
    softmax,
    top_ids,
    warp,
    warped,
)
from common.sampling.randomness import Purpose, uniform
from common.sampling.shares import encode_shares
from edge_agent.policy.policy import Policy
from edge_agent.policy.schemes import SCHEMES
from tests.support.fakes import FakeModel

Tokens = tuple[int, ...]
Law = dict[Tokens, float]


def random_probs(seed: int, size: int, scale: float = 2.0) -> np.ndarray:
    return softmax(np.random.default_rng(seed).normal(size=size) * scale)


def total_variation(left: np.ndarray, right: np.ndarray) -> float:
    return 0.5 * float(np.abs(left - right).sum())


def output_law(draft_probs: np.ndarray, accept: np.ndarray, rest: np.ndarray) -> np.ndarray:
    """sum_d q_d [accept_d 1_d + (1 - accept_d) rest], with accept [V] and rest [V]."""
    return draft_probs * accept + float((draft_probs * (1 - accept)).sum()) * rest


cases = st.tuples(
    st.integers(0, 10_000), st.integers(2, 60), st.integers(1, 60), st.sampled_from([256, 65536])
)


@given(cases)
def test_verified_tokens_have_exactly_the_targets_law_at_any_truncation(
    case: tuple[int, int, int, int],
) -> None:
    seed, size, k, total = case
    y, q = random_probs(seed, size), quantise(random_probs(seed + 1, size), k, total)
    dense = q.dense(size)
    accept = np.array([accept_probability(y, DraftToken(d, q)) if dense[d] > 0 else 1.0 for d in range(size)])
    assert output_law(dense, accept, residual(y, dense)) == pytest.approx(y, abs=1e-9)


@given(cases)
def test_the_rejection_rate_is_the_total_variation_between_what_is_sent_and_the_target(
    case: tuple[int, int, int, int],
) -> None:
    seed, size, k, total = case
    y, x = random_probs(seed, size), random_probs(seed + 1, size)
    q = quantise(x, k, total)
    sent = q.dense(size)
    reject = sum(sent[d] * (1 - accept_probability(y, DraftToken(d, q))) for d in map(int, q.ids))
    assert reject == pytest.approx(total_variation(sent, y), abs=1e-9)
    tail = 1 - float(x[top_ids(x, k)].sum())
    assert reject <= total_variation(x, y) + tail + min(k, size) / (4 * total) + 1e-9


@given(cases, st.integers(0, 2**60 - 1))
def test_skipping_drifts_by_exactly_the_rejection_mass_of_the_skipped_tokens(
    case: tuple[int, int, int, int], subset: int
) -> None:
    seed, size, k, total = case
    y, q = random_probs(seed, size), quantise(random_probs(seed + 1, size), k, total).dense(size)
    skipped = np.array([bool(subset >> d & 1) for d in range(size)])
    accept = np.where(q > 0, np.minimum(1, y / np.where(q > 0, q, 1)), 1.0)
    output = output_law(q, np.where(skipped, 1.0, accept), residual(y, q))
    drift = float(np.maximum(0, q - y)[skipped].sum())
    assert total_variation(output, y) == pytest.approx(drift, abs=1e-9)


@given(st.integers(0, 10_000), st.integers(2, 60), st.integers(1, 20))
def test_the_bias_of_cu_hlms_order_is_bounded_by_the_truncation_error(seed: int, size: int, k: int) -> None:
    x, y = random_probs(seed, size), random_probs(seed + 1, size)
    ids = top_ids(x, k)
    rebuilt = TopK(ids, encode_shares(x[ids]), 1.0).dense(size)
    accept = np.minimum(1, y / x)
    biased = output_law(x, accept, residual(y, rebuilt))
    assert total_variation(biased, y) <= total_variation(x, rebuilt) + 1e-9


def test_cu_hlms_order_is_really_biased() -> None:
    x, y = random_probs(3, 30), random_probs(4, 30)
    ids = top_ids(x, 3)
    rebuilt = TopK(ids, encode_shares(x[ids]), 1.0).dense(30)
    biased = output_law(x, np.minimum(1, y / x), residual(y, rebuilt))
    assert total_variation(biased, y) > 0.01


@given(st.integers(0, 10_000), st.integers(10, 60), st.integers(1, 5))
def test_cu_hlms_receiver_keeps_what_was_sent_and_spreads_the_missing_mass_evenly(
    seed: int, size: int, k: int
) -> None:
    logits = np.log(random_probs(seed, size, scale=0.7))
    each = Policy(SCHEMES["cu-hlm-offline"], Sampling(), seed=1, threshold=0.0, max_ids=k)
    sent = each.propose(logits, 3).draft.distribution
    assert sent is not None
    rebuilt = sent.dense(size)
    kept = top_ids(softmax(logits), k)
    rest = np.delete(rebuilt, kept)
    assert rebuilt[kept] == pytest.approx(softmax(logits)[kept], abs=0.02)
    assert rest == pytest.approx(np.full(size - k, (1.0 - rebuilt[kept].sum()) / (size - k)), abs=1e-12)
    assert (rest > 0).all()


@given(st.integers(0, 10_000), st.integers(2, 40), st.integers(1, 60))
def test_what_cu_hlms_receiver_rebuilds_is_a_distribution_at_any_k(seed: int, size: int, k: int) -> None:
    each = Policy(SCHEMES["cu-hlm-offline"], Sampling(), seed=1, threshold=0.0, max_ids=k)
    sent = each.propose(np.log(random_probs(seed, size)), 3).draft.distribution
    assert sent is not None
    assert sent.dense(size).sum() == pytest.approx(1.0, abs=1e-12)
    assert (sent.dense(size) >= -1e-15).all()


def test_cu_hlms_draft_token_is_accepted_by_its_own_probability_also_when_it_is_not_among_the_k() -> None:
    x, y = random_probs(3, 30), random_probs(4, 30)
    each = Policy(SCHEMES["cu-hlm-offline"], Sampling(), seed=1, threshold=0.0, max_ids=3)
    drafts = [each.propose(np.log(x), position).draft for position in range(60)]
    assert {draft.token for draft in drafts} - set(top_ids(x, 3).tolist())
    for draft in drafts:
        assert accept_probability(y, draft) == pytest.approx(min(1.0, y[draft.token] / x[draft.token]))


def test_the_residual_is_the_target_where_rounding_leaves_no_mass() -> None:
    y = np.array([0.25, 0.75])
    assert residual(y, np.array([0.3, 0.8])) == pytest.approx(y)


@given(st.integers(0, 2**64 - 1), st.integers(0, 5000), st.integers(2, 50))
def test_the_coupled_token_is_the_targets_whatever_the_draft_was(seed: int, position: int, size: int) -> None:
    y = random_probs(seed % 1000, size)
    expected = target_choice(y, seed, position)
    assert {verify_token(y, DraftToken(d), seed, position) for d in range(size)} == {expected}


def test_coupling_accepts_at_least_as_often_as_its_bound() -> None:
    x, y = random_probs(1, 20), random_probs(2, 20, scale=1.0)
    tv = total_variation(x, y)
    agreed = np.mean([target_choice(x, 7, i) == target_choice(y, 7, i) for i in range(4000)])
    assert agreed >= (1 - tv) / (1 + tv) - 0.03


def joint_law(gamma: int, size: int, cut: int) -> tuple[Law, Law]:
    """The law of `gamma` tokens, verified in blocks of `cut`, by summing over drafts and outcomes."""
    target, draft = (FakeModel(0, vocab_size=size), FakeModel(5, vocab_size=size, noise=0.5))
    expected: Law = {}
    got: Law = {}
    for tokens in product(range(size), repeat=gamma):
        probability = 1.0
        for i in range(gamma):
            y = softmax(target.logits([1, *tokens[:i]]))
            probability *= y[tokens[i]]
        expected[tokens] = probability

    def walk(prefix: Tokens, probability: float) -> None:
        if len(prefix) == gamma:
            got[prefix] = got.get(prefix, 0.0) + probability
            return
        length = min(cut, gamma - len(prefix))
        for block, law in blocks(prefix, length):
            walk((*prefix, *block), probability * law)

    def blocks(prefix: Tokens, length: int) -> Iterator[tuple[Tokens, float]]:
        """Every outcome of one block: accepted tokens, then a resampled one after a rejection."""
        if length == 0:
            yield (), 1.0
            return
        y = softmax(target.logits([1, *prefix]))
        q = quantise(softmax(draft.logits([1, *prefix])), 2, 256)
        rest = residual(y, q.dense(size))
        for d in map(int, q.ids):
            accept = accept_probability(y, DraftToken(d, q))
            for following, law in blocks((*prefix, d), length - 1):
                yield (d, *following), q.prob(d) * accept * law
            for t in range(size):
                yield (t,), q.prob(d) * (1 - accept) * rest[t]

    walk((), 1.0)
    return expected, got


@pytest.mark.parametrize("cut", [1, 2, 3])
def test_block_verification_has_the_targets_joint_law(cut: int) -> None:
    expected, got = joint_law(gamma=3, size=4, cut=cut)
    assert {key: got.get(key, 0.0) for key in expected} == pytest.approx(expected, abs=1e-9)


@given(st.integers(0, 1000), st.integers(1, 6))
def test_a_block_verified_whole_or_token_by_token_gives_the_same_tokens(seed: int, length: int) -> None:
    target, draft = FakeModel(0), FakeModel(5, noise=0.6)
    policy = Policy(SCHEMES["lossless"], Sampling(), seed, threshold=1.0, max_ids=4)
    block: list[DraftToken] = []
    for i in range(length):
        tokens = [1, *(item.token for item in block)]
        block.append(policy.propose(draft.logits(tokens), 1 + i).draft)

    def probs(i: int) -> np.ndarray:
        return softmax(target.logits([1, *(item.token for item in block[:i])]))

    whole = verify_block(probs, block, seed=seed, position=1, bonus=False)
    for i, item in enumerate(block):
        token = verify_token(probs(i), item, seed, 1 + i)
        if token != item.token:
            assert (whole.num_accepted, whole.token) == (i, token)
            return
    assert (whole.num_accepted, whole.token) == (length, None)


@pytest.mark.parametrize("scheme", ["lossless", "coupled", "hlm"])
def test_20000_seeds_give_the_targets_next_token_law(scheme: str) -> None:
    target, draft = FakeModel(0, vocab_size=40), FakeModel(5, vocab_size=40, noise=0.5)
    prefix = [3, 1, 4]
    y, logits = softmax(target.logits(prefix)), draft.logits(prefix)
    counts = np.zeros(40)
    for seed in range(20_000):
        policy = Policy(
            SCHEMES[scheme], Sampling(), seed, threshold=1.0, max_ids=4, estimator=lambda _1, _2, _3, _4: 1.0
        )
        token = policy.propose(logits, 3).draft
        counts[verify_token(y, token, seed, 3)] += 1
    assert stats.chisquare(counts, y * 20_000).pvalue > 0.001


@settings(max_examples=300)
@given(st.integers(0, 10_000), st.integers(1, 200), st.integers(1, 200), st.sampled_from([256, 65536]))
def test_a_lattice_is_a_distribution_of_at_most_k_ids(seed: int, size: int, k: int, total: int) -> None:
    lattice = quantise(random_probs(seed, size, scale=4.0), k, total)
    assert lattice.counts.sum() == total
    assert (lattice.counts > 0).all()
    assert len(set(lattice.ids.tolist())) == len(lattice.ids) <= min(k, size)


@given(st.integers(0, 10_000), st.integers(1, 200), st.integers(1, 200), st.sampled_from([256, 65536]))
def test_the_order_of_a_lattice_follows_from_its_ids_and_counts_alone(
    seed: int, size: int, k: int, total: int
) -> None:
    lattice = quantise(random_probs(seed, size), k, total)
    pairs = list(zip((-lattice.counts).tolist(), lattice.ids.tolist(), strict=True))
    assert pairs == sorted(pairs)


def test_a_lattice_is_drawn_in_exact_proportion_to_its_counts() -> None:
    lattice = Lattice(np.array([5, 2, 9]), np.array([200, 50, 6]))
    drawn = [lattice.draw((i + 0.5) / 256) for i in range(256)]
    assert [drawn.count(token) for token in (5, 2, 9)] == [200, 50, 6]


def test_a_dense_distribution_is_drawn_from_the_rounded_weights_that_are_sent() -> None:
    dense = densify(random_probs(1, 50))
    counts = np.bincount([dense.draw(uniform(s, 0, Purpose.DRAFT)) for s in range(20_000)], minlength=50)
    assert stats.chisquare(counts, dense.dense(50) * 20_000).pvalue > 0.001


def test_purposes_and_positions_are_independent() -> None:
    streams = [[uniform(9, position, purpose) for position in range(3000)] for purpose in Purpose]
    correlation = np.corrcoef(streams)
    assert np.abs(correlation - np.eye(len(streams))).max() < 0.08
    assert all(stats.kstest(stream, "uniform").pvalue > 1e-4 for stream in streams)


@pytest.mark.parametrize("scale", [0.0, 0.5, 6.0])
@pytest.mark.parametrize("top_p", [1e-6, 0.3, 0.95, 1 - 1e-12])
@pytest.mark.parametrize("top_k", [0, 700])
def test_a_nucleus_is_the_head_of_all_ids_in_order(scale: float, top_p: float, top_k: int) -> None:
    logits = np.round(scale * np.random.default_rng(2).normal(size=5000), 1)  # with many ties
    probs = warp(logits, Sampling(1.0, top_k))
    order = np.argsort(-probs, kind="stable")
    head = order[: int(np.searchsorted(np.cumsum(probs[order]), top_p, side="left")) + 1]
    kept = np.zeros(5000)
    kept[head] = probs[head]
    assert (warp(logits, Sampling(1.0, top_k, top_p)) == kept / kept.sum()).all()


def plainly_warped(logits: np.ndarray, sampling: Sampling) -> np.ndarray:
    """The law as it is stated: every id in one order, most probable first, ties by the lower id."""
    if sampling.greedy:
        return np.eye(len(logits))[np.argmax(logits)]
    weights = np.exp((logits.astype(np.float64) - logits.astype(np.float64).max()) / sampling.temperature)
    probs = weights / weights.sum()
    if 0 < sampling.top_k < len(probs):
        probs = only(probs, np.argsort(-probs, kind="stable")[: sampling.top_k])
    if sampling.top_p < 1.0:
        order = np.argsort(-probs, kind="stable")
        mass = np.cumsum(probs[order])
        probs = only(probs, order[: int(np.searchsorted(mass, sampling.top_p, side="left")) + 1])
    return probs


def only(probs: np.ndarray, ids: np.ndarray) -> np.ndarray:
    kept = np.zeros(len(probs))
    kept[ids] = probs[ids]
    return kept / kept.sum()


SIZES = [1, 2, 3, 50, NUCLEUS_HEAD - 1, NUCLEUS_HEAD, NUCLEUS_HEAD + 1, 12_000]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@settings(max_examples=300)
@given(
    st.integers(0, 10_000),
    st.sampled_from(SIZES),
    st.sampled_from([0.0, 0.3, 3.0, 30.0, 300.0]),
    st.sampled_from([None, 0, 1]),
    st.sampled_from([0.0, 0.5, 0.999]),
    st.sampled_from([0.0, 5e-324, 1e-300, 0.01, 0.7, 1.0, 100.0, 1e6]),
    st.sampled_from([0, 1, 5, NUCLEUS_HEAD, -1, 2**24]),
    st.sampled_from([5e-324, 1e-9, 0.5, 0.95, 1 - 1e-9, 1 - 1e-12, 1 - 2**-53, 1.0]),
    st.sampled_from([np.float32, np.float64]),
)
def test_selecting_gives_the_numbers_of_sorting_bit_for_bit(
    seed: int,
    size: int,
    scale: float,
    decimals: int | None,
    impossible: float,
    temperature: float,
    top_k: int,
    top_p: float,
    kind: type[np.floating],
) -> None:
    rng = np.random.default_rng(seed)
    logits = (scale * rng.normal(size=size)).astype(kind)
    logits = logits if decimals is None else np.round(logits, decimals)  # with many ties
    logits[1:][rng.random(size - 1) < impossible] = -np.inf
    sampling = Sampling(temperature, max(0, size - 1) if top_k == -1 else top_k, top_p)
    expected, found = plainly_warped(logits, sampling), warp(logits, sampling)
    assert found.tobytes() == expected.tobytes()
    token = int(rng.integers(size))
    assert warped(logits, sampling)[token] == expected[token]


@pytest.mark.parametrize(
    ("sampling", "kept"),
    [
        (Sampling(0.0), [2]),
        (Sampling(1.0, top_k=2), [1, 2]),
        (Sampling(1.0, top_p=0.6), [2]),
        (Sampling(1.0, top_p=0.8), [1, 2]),
        (Sampling(1.0), [0, 1, 2, 3]),
    ],
)
def test_warping_keeps_what_transformers_keeps(sampling: Sampling, kept: list[int]) -> None:
    probs = warp(np.log(np.array([0.06, 0.25, 0.65, 0.04])), sampling)
    assert np.flatnonzero(probs).tolist() == kept
    assert probs.sum() == pytest.approx(1.0)
