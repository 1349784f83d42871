"""Penalties and min-p: the same at both ends, as in transformers, and functions of the text alone."""

import math
import random
from dataclasses import replace
from typing import cast

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import MinPLogitsWarper, RepetitionPenaltyLogitsProcessor, TopPLogitsWarper

from common.sampling.distribution import Sampling, softmax, warp
from common.sampling.penalties import Penalties
from tests.support.circle import PROMPT, Circle
from tests.support.fakes import VOCAB_SIZE, FakeModel

ALL = Sampling(1.0, 0, 1.0, 0.02, 1.3, 0.4, 0.2)


def penalised(logits: np.ndarray, tokens: list[int], sampling: Sampling, num_prompt: int = 0) -> np.ndarray:
    return Penalties(sampling, num_prompt).apply(logits, tokens, len(tokens))


def logits_of(seed: int, size: int = 40) -> np.ndarray:
    return np.random.default_rng(seed).normal(scale=3.0, size=size).astype(np.float32)


@given(st.integers(0, 1000), st.lists(st.integers(0, 39), max_size=20), st.floats(0.1, 10))
def test_the_repetition_penalty_is_that_of_transformers(seed: int, tokens: list[int], penalty: float) -> None:
    logits = logits_of(seed)
    text = cast(torch.LongTensor, torch.tensor([tokens], dtype=torch.long))
    theirs = RepetitionPenaltyLogitsProcessor(penalty)(
        text, cast(torch.FloatTensor, torch.tensor(logits)[None])
    )
    ours = penalised(logits, tokens, Sampling(repetition_penalty=penalty))
    np.testing.assert_allclose(ours, theirs[0].numpy(), rtol=1e-6)


@given(st.integers(0, 1000), st.sampled_from([0.01, 0.1, 0.5, 1.0]), st.sampled_from([0.5, 0.9, 1.0]))
def test_min_p_is_that_of_transformers(seed: int, min_p: float, top_p: float) -> None:
    logits = logits_of(seed)
    scores = cast(torch.FloatTensor, torch.tensor(logits, dtype=torch.float64)[None])
    ids = cast(torch.LongTensor, torch.zeros((1, 1), dtype=torch.long))
    if top_p < 1.0:
        scores = TopPLogitsWarper(top_p)(ids, scores)
    theirs = MinPLogitsWarper(min_p)(ids, scores).softmax(-1)[0].numpy()
    np.testing.assert_allclose(warp(logits, Sampling(1.0, 0, top_p, min_p)), theirs, atol=1e-6)


def test_presence_and_frequency_spare_the_prompt_and_count_the_answer() -> None:
    logits = np.zeros(6, np.float32)
    sampling = Sampling(presence_penalty=1.0, frequency_penalty=0.5)
    changed = penalised(logits, [0, 1, 1, 2, 3, 3], sampling, num_prompt=3)
    assert changed.tolist() == [0.0, 0.0, -1.5, -2.0, 0.0, 0.0]
    assert logits.tolist() == [0.0] * 6


@pytest.mark.parametrize(
    ("sampling", "expected"),
    [
        (Sampling(presence_penalty=1.0), [0.0, -1.0, -1.0]),
        (Sampling(frequency_penalty=0.5), [0.0, -0.5, -1.0]),
    ],
)
def test_presence_and_frequency_act_alone_too(sampling: Sampling, expected: list[float]) -> None:
    assert penalised(np.zeros(3, np.float32), [1, 2, 2], sampling).tolist() == expected


@given(st.lists(st.integers(0, 39), min_size=1, max_size=12), st.randoms(use_true_random=False))
def test_the_order_in_which_positions_are_asked_for_does_not_matter(
    tokens: list[int], rng: random.Random
) -> None:
    logits = logits_of(1)
    one = Penalties(ALL, num_prompt=2)
    other = [rng.randrange(40) for _ in tokens]
    for _ in range(20):
        text = rng.choice([tokens, other, tuple(tokens)])
        position = rng.randint(0, len(text))
        expected = penalised(logits, list(text[:position]), ALL, num_prompt=2)
        assert np.array_equal(one.apply(logits, text, position), expected)


def test_extreme_penalties_leave_a_distribution() -> None:
    logits = np.array([3e38, -3e38, -math.inf, 0.0], np.float32)
    for penalty in (0.01, 100.0):
        sampling = Sampling(repetition_penalty=penalty, presence_penalty=100.0, frequency_penalty=-100.0)
        changed = penalised(logits, [0, 1, 2, 3], sampling)
        assert not np.isnan(changed).any()


def target_alone(num: int, sampling: Sampling) -> list[int]:
    """The target model's own greedy text under the penalties."""
    model, tokens = FakeModel(0), list(PROMPT)
    for _ in range(num):
        tokens.append(int(np.argmax(penalised(model.logits(tokens), tokens, sampling, len(PROMPT)))))
    return tokens[len(PROMPT) :]


@pytest.mark.parametrize("window", [1, 4])
@pytest.mark.parametrize("scheme", ["llm", "lossless", "coupled", "auto", "hlm"])
def test_greedy_text_is_the_targets_own_under_penalties(scheme: str, window: int) -> None:
    sampling = replace(ALL, temperature=0.0)
    circle = Circle(scheme=scheme, temperature=0.0, sampling=sampling, window=window)
    circle.settle()
    assert circle.text == target_alone(24, sampling)
    assert circle.text != target_alone(24, Sampling(0.0))


@pytest.mark.parametrize("scheme", ["lossless", "coupled", "auto", "opportunistic", "u-hlm"])
def test_text_under_penalties_does_not_depend_on_windows_and_losses(scheme: str) -> None:
    calm = Circle(scheme=scheme, sampling=ALL, window=1, block_length=1)
    calm.settle()
    for seed in range(5):
        rng = random.Random(seed)
        rough = Circle(scheme=scheme, sampling=ALL, window=6, block_length=4)
        for _ in range(60):
            rough.draft()
            if rough.to_workers:
                rough.deliver_to_worker(rng.randrange(len(rough.to_workers)), keep=rng.random() < 0.3)
            if rough.to_device and rng.random() < 0.5:
                rough.deliver_to_device(rng.randrange(len(rough.to_device)))
        rough.settle()
        assert rough.text == calm.text


@pytest.mark.parametrize("form", ["lossless", "hlm"])
def test_verification_is_exact_under_penalties(form: str) -> None:
    """The sum over draft tokens of what they lead to is the penalised target's distribution."""
    counts = np.zeros(VOCAB_SIZE)
    for seed in range(3000):
        circle = Circle(scheme=form, seed=seed, sampling=ALL, max_tokens=1)
        circle.settle()
        counts[circle.text[0]] += 1
    logits = penalised(FakeModel(0).logits(PROMPT), PROMPT, ALL, len(PROMPT))
    expected = warp(logits, ALL)
    assert not counts[expected == 0.0].any()
    likely = expected * 3000 >= 5
    error = (counts - expected * 3000)[likely] / np.sqrt(expected[likely] * 3000)
    assert float((error**2).sum()) < 3.0 * likely.sum()
    assert not np.allclose(expected, softmax(FakeModel(0).logits(PROMPT)))
