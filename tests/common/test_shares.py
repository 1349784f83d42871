"""CU-HLM's bytes: any of them are a distribution, and what they round away is small at every k."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.sampling.distribution import TopK, encode_probs, softmax, top_ids
from common.sampling.shares import decode_shares, encode_shares

SIZE = 1000


def total_variation(first: np.ndarray, second: np.ndarray) -> float:
    return float(np.abs(first - second).sum() / 2)


def rebuilt(probs: np.ndarray, k: int, is_logarithmic: bool) -> np.ndarray:
    ids = top_ids(probs, k)
    codes = encode_probs(probs[ids]) if is_logarithmic else encode_shares(probs[ids])
    return TopK(ids, codes, 1.0, is_logarithmic).dense(len(probs))


def truncated(probs: np.ndarray, k: int) -> np.ndarray:
    """x^ before rounding: the k largest, and what is missing to 1 spread evenly."""
    ids = top_ids(probs, k)
    exact = np.full(len(probs), (1 - probs[ids].sum()) / max(1, len(probs) - k))
    exact[ids] = probs[ids]
    return exact


peaks = st.floats(0.01, 12)  # from nearly flat to nearly certain


@given(st.integers(0, 10_000), peaks, st.sampled_from([1, 2, 4, 8, 30, 100, SIZE - 1]))
def test_the_rounding_error_has_its_bound_at_every_k(seed: int, peak: float, k: int) -> None:
    probs = softmax(np.random.default_rng(seed).normal(size=SIZE) * peak)
    assert total_variation(rebuilt(probs, k, False), truncated(probs, k)) <= 0.0062 * np.sqrt(k)


@given(st.floats(0, 1))
def test_one_probability_is_at_most_0_0031_off(prob: float) -> None:
    assert decode_shares(encode_shares(np.array([prob])))[0] == pytest.approx(prob, abs=0.0031)


@given(st.binary(min_size=1, max_size=300))
def test_any_bytes_are_probabilities_that_sum_to_at_most_1(codes: bytes) -> None:
    probs = decode_shares(np.frombuffer(codes, np.uint8))
    assert (probs >= 0).all()
    assert probs.sum() <= 1 + 1e-12


@given(st.binary(min_size=1, max_size=20))
def test_any_bytes_rebuild_a_distribution_also_without_a_rest(codes: bytes) -> None:
    for size in (len(codes), len(codes) + 5):
        probs = TopK(np.arange(len(codes)), np.frombuffer(codes, np.uint8), 0.5).dense(size)
        assert (probs >= 0).all()
        assert probs.sum() == pytest.approx(1)


@pytest.mark.parametrize("k", [1, 2, 4, 8, 30])
def test_the_error_is_half_that_of_the_logarithmic_scale_or_less(k: int) -> None:
    rng = np.random.default_rng(k)
    errors = {True: 0.0, False: 0.0}
    for _ in range(50):
        ranks = np.arange(1, 2001)
        probs = softmax(-rng.uniform(1.0, 2.5) * np.log(ranks) + rng.normal(size=2000))
        for is_logarithmic in errors:
            errors[is_logarithmic] += total_variation(rebuilt(probs, k, is_logarithmic), truncated(probs, k))
    assert errors[False] <= errors[True] / 2


def test_certainty_and_nothing_are_written_exactly() -> None:
    assert decode_shares(encode_shares(np.array([1.0, 0.0, 0.0]))).tolist() == [1.0, 0.0, 0.0]
    assert decode_shares(encode_shares(np.zeros(3))).tolist() == [0.0, 0.0, 0.0]
