"""Verification with the target's probabilities at the lattice's ids alone is exact."""

from collections import Counter
from collections.abc import Callable, Generator
from functools import cache
from itertools import count

import numpy as np
import pytest
from scipy.stats import chi2

from cloud_worker.vllm_target.deciding import Place, deciding, measuring
from cloud_worker.vllm_target.lattice import Split
from cloud_worker.vllm_target.questions import Question, Reply, refused_sampling, server_seed
from common.protocol.messages import DraftToken
from common.sampling.distribution import Lattice, Sampling, fit_vocabulary, quantise, softmax, warp
from common.sampling.randomness import FloatArray, Purpose, uniform

VOCAB_SIZE = 24
PADDING = 3  # ids of the server's model beyond the vocabulary
LOWERED = -100.0


def server(logits: FloatArray) -> Callable[[Question], Reply]:
    """A server whose model has these logits for every position, as vLLM computes with them."""

    @cache
    def probs(sampling: Sampling, avoided: tuple[int, ...] = ()) -> FloatArray:
        moved = logits.copy()
        moved[list(avoided)] += LOWERED
        return warp(moved, sampling)

    def ask(question: Question) -> Reply:
        cumulative = np.cumsum(probs(question.sampling, question.avoided))
        uniforms = np.random.Generator(np.random.Philox(question.seed)).random(question.num_samples)
        samples = np.searchsorted(cumulative, uniforms * cumulative[-1], side="right")
        known = probs(question.sampling)
        return Reply(tuple(samples.tolist()), tuple(float(np.float32(known[id_])) for id_ in question.ids))

    return ask


def answered(
    steps: Generator[Question, Reply, int | float],
    ask: Callable[[Question], Reply],
) -> int | float:
    """What the steps come to."""
    question = next(steps)
    while True:
        try:
            question = steps.send(ask(question))
        except StopIteration as end:
            return end.value


def beginning(first: Reply, ask: Callable[[Question], Reply]) -> Callable[[Question], Reply]:
    """Answers as `ask`, but the first question by `first`."""
    replies = iter([first])
    return lambda question: next(replies, None) or ask(question)


def law(lattice: Lattice, target_probs: FloatArray) -> FloatArray:
    """The distribution [vocab_size] of the token that results, by the split alone."""
    ids = lattice.ids
    split = Split.of(lattice, target_probs[ids])
    outside = target_probs.copy()
    outside[ids] = 0.0
    result = np.zeros(len(target_probs))
    mass = float(split.inside.sum()) + split.outside
    for token, times in zip(ids.tolist(), lattice.counts.tolist(), strict=True):
        accepted = split.accept_probability(token)
        result[token] += accepted * times / lattice.total
        if accepted < 1.0:
            rejected = (1.0 - accepted) * times / lattice.total
            result[ids] += rejected * split.inside / mass
            result += rejected * (split.outside / mass) * outside / max(outside.sum(), 1e-300)
    return result


@pytest.mark.parametrize("sharpness", [0.3, 1.0, 4.0])
def test_law_is_the_targets_for_random_pairs(sharpness: float) -> None:
    random = np.random.default_rng(5)
    for _ in range(300):
        vocab_size = int(random.integers(2, 40))
        target = softmax(sharpness * random.normal(size=vocab_size) * 3.0)
        draft = softmax(sharpness * random.normal(size=vocab_size) * 3.0)
        lattice = quantise(draft, int(random.integers(1, vocab_size + 1)), int(random.choice([256, 65536])))
        assert np.abs(law(lattice, target) - target).max() < 1e-12


def test_replacement_takes_each_share_of_the_residual() -> None:
    lattice = Lattice(np.array([4, 1, 2]), np.array([128, 64, 64]))
    split = Split.of(lattice, np.array([0.1, 0.5, 0.2]))
    assert split.outside == pytest.approx(0.2)
    found = Counter(split.replacement((index + 0.5) / 9000) for index in range(9000))
    assert found == {1: 5000, None: 4000}  # 0.25 inside, 0.2 outside
    assert split.nearest() == 1


SAMPLINGS = {
    "plain": Sampling(),
    "hot": Sampling(temperature=1.7),
    "top_k": Sampling(top_k=9),
    "top_p": Sampling(temperature=1.2, top_p=0.9),
    "min_p": Sampling(temperature=1.5, min_p=0.02),
    "top_k_top_p": Sampling(temperature=1.5, top_k=12, top_p=0.95),
}


@pytest.mark.parametrize("name", SAMPLINGS)
def test_tokens_follow_the_target_under_every_sampling(name: str) -> None:
    sampling, seed, positions = SAMPLINGS[name], 9, 1000
    random = np.random.default_rng(3)
    logits = random.normal(size=VOCAB_SIZE + PADDING) * 2.0
    logits[VOCAB_SIZE:] = -1e9
    draft_probs = softmax(logits[:VOCAB_SIZE] + random.normal(size=VOCAB_SIZE))
    lattice = quantise(draft_probs, 3, 256)
    expected = positions * warp(fit_vocabulary(logits, VOCAB_SIZE), sampling)
    ask = server(logits)
    found: Counter[int | float] = Counter()
    for position in range(positions):
        draft = DraftToken(lattice.draw(uniform(seed, position, Purpose.DRAFT)), lattice)
        found[answered(deciding(Place(sampling, seed, position, VOCAB_SIZE), draft), ask)] += 1
    assert not any(found[token] for token in range(VOCAB_SIZE) if expected[token] == 0.0)
    common = expected >= 5.0
    observed = np.array([found[token] for token in range(VOCAB_SIZE)])
    groups = [(observed[common], expected[common]), (observed[~common].sum(), expected[~common].sum())]
    statistic = sum(float(((o - e) ** 2 / np.maximum(e, 1e-9)).sum()) for o, e in groups)
    assert statistic < chi2.isf(1e-4, int(common.sum()))


def test_sample_outside_is_found_where_it_is_rare() -> None:
    """A lattice with nearly all of the nucleus: the few tokens outside come in their proportion."""
    sampling = Sampling(top_p=0.9995)
    logits = np.log(np.array([0.6, 0.3988, 0.0006, 0.0003, 0.0003]))
    ask = server(logits)
    found: Counter[int | float] = Counter()
    for position in range(300):
        steps = deciding(
            Place(sampling, 3, position, len(logits)),
            DraftToken(1, Lattice(np.array([0, 1]), np.array([128, 128]))),
        )
        found[answered(steps, beginning(Reply((0,), (0.6, 0.0)), ask))] += 1  # the first draft is rejected
    assert set(found) == {0, 2, 3}


def test_same_question_has_the_same_seed_and_others_have_others() -> None:
    seeds = {
        server_seed(seed, position, round_)
        for seed in range(4)
        for position in range(50)
        for round_ in range(3)
    }
    assert len(seeds) == 600
    assert server_seed(3, 7, 1) == server_seed(3, 7, 1)
    assert all(0 <= seed < 1 << 62 for seed in seeds)


def test_greedy_takes_the_servers_choice() -> None:
    place = Place(Sampling(temperature=0.0), 1, 5, VOCAB_SIZE)
    lattice = Lattice(np.array([2, 3]), np.array([128, 128]))
    for draft in (None, DraftToken(2, lattice), DraftToken(2)):
        assert answered(deciding(place, draft), lambda _: Reply((7,))) == 7
    assert answered(measuring(place, 7), lambda _: Reply((7,))) == 1.0
    assert answered(measuring(place, 6), lambda _: Reply((7,))) == 0.0


def test_samples_beyond_the_vocabulary_are_drawn_again() -> None:
    numbers = count()

    def ask(question: Question) -> Reply:
        is_first = next(numbers) == 0
        return Reply((VOCAB_SIZE,)) if is_first else Reply((VOCAB_SIZE + 1, 4, 5)[: question.num_samples])

    assert answered(deciding(Place(Sampling(), 1, 5, VOCAB_SIZE), None), ask) == 4


@pytest.mark.parametrize(
    ("sampling", "is_refused"),
    [
        (Sampling(), False),
        (Sampling(temperature=0.0), False),
        (Sampling(temperature=0.005), True),
        (Sampling(temperature=2.5), True),
        (Sampling(top_k=20, top_p=0.9), False),
        (Sampling(min_p=0.1), False),
        (Sampling(min_p=0.1, top_p=0.9), True),
        (Sampling(repetition_penalty=1.1), False),
        (Sampling(presence_penalty=1.0), True),
        (Sampling(frequency_penalty=-1.0), True),
    ],
)
def test_sampling_that_the_server_warps_otherwise_is_refused(sampling: Sampling, is_refused: bool) -> None:
    assert (refused_sampling(sampling) is not None) == is_refused
