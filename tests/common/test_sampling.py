"""The numbers that both ends of any release must agree on, and how probabilities become counts and codes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.sampling.distribution import (
    LATTICE_TOTALS,
    Certain,
    Lattice,
    decode_probs,
    draw,
    encode_probs,
    fit_vocabulary,
    quantise,
    softmax,
    top_ids,
)
from common.sampling.randomness import (
    MAX_SEED,
    Purpose,
    gumbel_noise,
    gumbel_noise_at,
    least_word,
    uniform,
    uniforms,
)


def random_probs(seed: int, size: int, scale: float) -> np.ndarray:
    return softmax(np.random.default_rng(seed).normal(size=size) * scale)


probs_of_any_size = st.builds(
    random_probs, st.integers(0, 10_000), st.integers(1, 60), st.sampled_from([0.0, 0.5, 3.0, 12.0])
)

# -- draws ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("purpose", "code"), [(purpose, code) for code, purpose in enumerate(Purpose)])
def test_the_number_of_a_seed_position_and_purpose_is_philoxs_first(purpose: Purpose, code: int) -> None:
    """The key is (seed, purpose), the counter (0, position); the two ends may be of different releases."""
    generator = np.random.Philox(
        key=np.array([2**64 - 1, code], np.uint64), counter=np.array([0, 77, 0, 0], np.uint64)
    )
    expected = ((int(generator.random_raw()) >> 12) + 0.5) / 2**52
    assert uniform(2**64 - 1, 77, purpose) == expected


def test_the_purposes_keep_their_codes() -> None:
    names = ["DRAFT", "ACCEPT", "RESAMPLE", "COUPLING", "UPLINK", "PERTURB"]
    assert {purpose.name: int(purpose) for purpose in Purpose} == {
        name: code for code, name in enumerate(names)
    }


def test_gumbel_noise_is_made_of_the_coupling_numbers() -> None:
    assert np.exp(-np.exp(-gumbel_noise(5, 6, 8))) == pytest.approx(uniforms(5, 6, Purpose.COUPLING, 8))


def test_the_noise_of_a_few_ids_is_that_of_all() -> None:
    for seed, position in ((0, 0), (9, 700), (MAX_SEED, 2**31)):
        ids = np.random.default_rng(seed).integers(1000, size=40)
        expected = gumbel_noise(seed, position, 1000)[ids]
        assert (gumbel_noise_at(seed, position, ids) == expected).all()


def test_the_least_word_is_below_every_word_with_that_much_noise() -> None:
    for noise in (-3.0, -1.0, 0.0, 3.0, 20.0, 36.0, 800.0):
        number = ((least_word(noise) >> 12) + 0.5) * 2.0**-52
        assert -np.log(-np.log(number)) <= noise
    assert least_word(5.0) > 2**63


def test_a_draw_never_takes_a_token_of_probability_0() -> None:
    probs = np.array([0.0, 0.25, 0.0, 0.75, 0.0])
    assert [draw(probs, number) for number in (1e-300, 0.2499, 0.25, 0.9999, 1 - 2**-53)] == [1, 1, 3, 3, 3]
    assert draw(probs / 3, 0.3) == 3  # rounding may leave the sum below 1


# -- counts ---------------------------------------------------------------------------------------------


@given(probs_of_any_size, st.integers(1, 70), st.sampled_from(LATTICE_TOTALS))
def test_a_count_is_its_share_rounded_down_or_up_and_the_largest_remainders_go_up(
    probs: np.ndarray, max_ids: int, total: int
) -> None:
    ids = top_ids(probs, max_ids)
    shares = probs[ids] / probs[ids].sum() * total
    counts = quantise(probs, max_ids, total).dense(len(probs))[ids] * total
    assert (np.abs(counts - shares) < 1).all()
    remainders = shares - np.floor(shares)
    up = counts > np.floor(shares)
    assert not up.any() or up.all() or remainders[up].min() >= remainders[~up].max()


def test_a_lattice_knows_its_total_and_the_probability_of_each_id() -> None:
    lattice = Lattice(np.array([7, 2]), np.array([192, 64]))
    assert lattice.total == 256
    assert [lattice.prob(token) for token in (7, 2, 3)] == [0.75, 0.25, 0.0]
    assert lattice.dense(8).tolist() == [0, 0, 0.25, 0, 0, 0, 0, 0.75]


def test_the_most_probable_ids_come_first_and_of_equal_ones_the_lower() -> None:
    probs = np.array([0.1, 0.3, 0.1, 0.3, 0.1, 0.1])
    assert [top_ids(probs, count).tolist() for count in (1, 2, 3, 6, 9)] == [
        [1],
        [1, 3],
        [1, 3, 0],
        [1, 3, 0, 2, 4, 5],
        [1, 3, 0, 2, 4, 5],
    ]


# -- codes ----------------------------------------------------------------------------------------------


def test_a_code_counts_twelfths_of_a_halving_and_255_is_0() -> None:
    probs = np.array([1.0, 0.5, 0.25, 2.0 ** (-1 / 12), 2.0**-21, 2.0**-30, 0.0])
    assert encode_probs(probs).tolist() == [0, 12, 24, 1, 252, 255, 255]
    assert decode_probs(np.array([0, 12, 24, 254, 255], np.uint8)) == pytest.approx(
        [1.0, 0.5, 0.25, 2.0 ** (-254 / 12), 0.0]
    )


@given(st.floats(2.0**-21, 1.0))
def test_a_code_is_at_most_2_9_percent_off(prob: float) -> None:
    (decoded,) = decode_probs(encode_probs(np.array([prob])))
    assert decoded == pytest.approx(prob, rel=0.0294)


# -- vocabularies ---------------------------------------------------------------------------------------


def test_padding_is_cut_off_and_what_is_missing_is_impossible() -> None:
    logits = np.arange(4, dtype=np.float32)
    assert fit_vocabulary(logits, 3).tolist() == [0, 1, 2]
    assert fit_vocabulary(logits, 4).tolist() == [0, 1, 2, 3]
    assert fit_vocabulary(logits, 6).tolist() == [0, 1, 2, 3, -np.inf, -np.inf]


def test_a_certain_choice_has_all_the_mass() -> None:
    certain = Certain(2, 4)
    assert [certain[token] for token in range(4)] == certain.dense().tolist() == [0, 0, 1, 0]
