"""A vocabulary of 151,936: what is drawn and sent is what the whole row says, at the price of its head."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from common.sampling.distribution import (
    Dense,
    Lattice,
    Sampling,
    TopK,
    densify,
    draw,
    quantise,
    softmax,
    top_ids,
    warp,
)
from common.sampling.randomness import Purpose, gumbel_noise, uniform
from common.sampling.shares import decode_shares
from edge_agent.policy.cheapest_k import cheapest_num_ids
from edge_agent.policy.head import NUM_LISTED, SMALL, Head
from edge_agent.policy.normalisers import Temperatures, normalisers
from edge_agent.policy.policy import Decision, Policy
from edge_agent.policy.reach import draw_any
from edge_agent.policy.schemes import SCHEMES
from edge_agent.policy.uncertainty import (
    ESTIMATORS,
    GRID,
    NUM_TEMPERATURES,
    TOLERANCE,
    perturbation_mean,
    perturbation_vote,
    token_probs_at,
    token_probs_between,
)
from tests.support.narrowing import expect

SIZE = 151_936
QWEN = Sampling(0.7, 20, 0.8)
SAMPLINGS = [Sampling(1.0), QWEN, Sampling(0.6, 0, 0.95), Sampling(1.5, 1000), Sampling(1e-9)]


def normal(scale: float, spike: float = 0.0) -> np.ndarray:
    """A row without order, whose most probable id is raised by `spike`."""
    logits = (np.random.default_rng(1).normal(size=SIZE) * scale).astype(np.float32)
    logits[logits.argmax()] += np.float32(spike)
    return logits


def ruled_out() -> np.ndarray:
    """Only a few ids are possible."""
    logits = np.full(SIZE, -np.inf, np.float32)
    logits[7::5000] = normal(3.0)[7::5000]
    return logits


def descending() -> np.ndarray:
    """The largest logits side by side, and padding."""
    logits = np.linspace(20.0, -20.0, SIZE, dtype=np.float32)
    logits[-271:] = -np.inf
    return logits


ROWS: dict[str, Callable[[], np.ndarray]] = {
    "like a model's": lambda: normal(3.0, 8.0),
    "unsure": lambda: normal(2.0),
    "many ties": lambda: np.round(normal(2.0)),
    "all equal": lambda: np.zeros(SIZE, np.float32),
    "few possible": ruled_out,
    "in order": descending,
    "far from 0": lambda: normal(3.0) + np.float32(1000.0),
    "one certain": lambda: normal(1.0, 200.0),
}
rows = pytest.mark.parametrize("row", ROWS)
samplings = pytest.mark.parametrize("sampling", SAMPLINGS, ids=str)


def policy(scheme: str, sampling: Sampling, **numbers: float) -> Policy:
    """The scheme with an estimator that does not look: these tests are about the draw."""

    def estimate(*_: object) -> float:
        return 1.0

    return replace(Policy(SCHEMES[scheme], sampling, 1, 0.5, estimator=estimate), **numbers)


@rows
def test_the_head_has_every_logit_from_its_floor_on(row: str) -> None:
    logits = ROWS[row]()
    head = Head.of(logits)
    assert head.largest == logits.max()
    assert head.first == logits.argmax()
    assert (head.ids == np.flatnonzero((logits >= head.floor) & (logits > -np.inf))).all()
    assert len(head.ids) >= min(NUM_LISTED, np.count_nonzero(logits > -np.inf))
    for count in (1, 32, NUM_LISTED, 5000):
        assert (head.top(count) == np.sort(top_ids(logits, count))).all()


@rows
@samplings
@pytest.mark.parametrize("max_ids", [0, 32])
def test_a_truncated_distribution_is_that_of_the_whole_row(
    row: str, sampling: Sampling, max_ids: int
) -> None:
    logits = ROWS[row]()
    chosen = policy("lossless", sampling, max_ids=max_ids).propose(logits, 3)
    probs = warp(logits, sampling)
    expected = quantise(probs, max_ids or cheapest_num_ids(probs, 256, 1e-4), 256)
    sent = expect(Lattice, chosen.draft.distribution)
    assert sent.ids.tolist() == expected.ids.tolist()
    assert sent.counts.tolist() == expected.counts.tolist()
    assert chosen.draft.token == expected.draw(uniform(1, 3, Purpose.DRAFT))
    assert chosen.prob == expected.prob(chosen.draft.token)


@rows
@samplings
def test_a_whole_row_is_sent_as_it_was_drawn_from(row: str, sampling: Sampling) -> None:
    logits = ROWS[row]()
    chosen = policy("hlm", sampling)
    sent = expect(Dense, chosen.propose(logits, 0).draft.distribution)
    received = Dense(sent.weights)  # as the worker decodes it
    assert len(received.weights) == SIZE
    for position in range(5):
        drawn = chosen.propose(logits, position)
        number = uniform(1, position, Purpose.DRAFT)
        assert drawn.draft.token == sent.draw(number) == received.draw(number)
        assert drawn.prob == sent.prob(drawn.draft.token) == received.prob(drawn.draft.token) > 0.0
    nearest = densify(warp(logits, sampling)).weights.view(np.uint16).astype(int)
    assert np.abs(received.weights.view(np.uint16).astype(int) - nearest).max() <= 1
    assert (sent.dense(SIZE) == received.dense(SIZE)).all()


def test_a_token_that_stays_local_costs_no_row() -> None:
    kept = Policy(SCHEMES["u-hlm"], QWEN, 1, threshold=1.0).propose(normal(3.0, 8.0), 3)
    assert kept.decision is Decision.SKIP
    assert len(expect(Dense, kept.draft.distribution).given) <= QWEN.top_k


@rows
@samplings
def test_the_coupled_token_is_that_of_the_whole_row(row: str, sampling: Sampling) -> None:
    logits = ROWS[row]()
    probs = warp(logits, sampling)
    chosen = policy("coupled", sampling)
    for position in range(2):
        with np.errstate(divide="ignore"):
            expected = int(np.argmax(np.log(probs) + gumbel_noise(1, position, SIZE)))
        proposal = chosen.propose(logits, position)
        assert proposal.draft.token == expected
        assert proposal.prob == pytest.approx(probs[expected], rel=1e-4)


@rows
@samplings
def test_a_token_that_is_never_sent_is_drawn_from_the_whole_row(row: str, sampling: Sampling) -> None:
    logits = ROWS[row]()
    probs = warp(logits, sampling)
    chosen = policy("slm", sampling)
    for position in range(5):
        proposal = chosen.propose(logits, position)
        assert proposal.draft.token == draw(probs, uniform(1, position, Purpose.DRAFT))
        assert proposal.prob == pytest.approx(probs[proposal.draft.token], rel=1e-4)


@pytest.mark.parametrize("number", [2.0**-53, 0.5, 1.0 - 2.0**-53])
@rows
def test_a_draw_from_all_ids_never_leaves_them(row: str, number: float) -> None:
    head = Head.of(ROWS[row]())
    for temperature in (1e-300, 0.7, 100.0):
        token, prob = draw_any(head, temperature, number)
        assert 0.0 < prob <= 1.0
        assert head.logits[token] > -np.inf


@rows
def test_cu_hlm_sends_the_largest_probabilities_of_the_whole_row(row: str) -> None:
    logits = ROWS[row]()
    probs = softmax(logits)
    proposal = policy("cu-hlm-offline", Sampling(1.0)).propose(logits, 3)
    sent = expect(TopK, proposal.draft.distribution)
    assert sorted(sent.ids) == sorted(top_ids(probs, 32)[: len(sent.ids)])
    assert np.abs(decode_shares(sent.codes) - probs[sent.ids]).sum() < 0.0062 * len(sent.ids) ** 0.5


@rows
def test_greedy_takes_the_first_of_the_largest(row: str) -> None:
    logits = ROWS[row]()
    assert policy("lossless", Sampling(0.0)).propose(logits, 3).draft.token == np.argmax(logits)


# -- uncertainty ---------------------------------------------------------------------------------------


def exact_normalisers(logits: np.ndarray, temperatures: np.ndarray) -> np.ndarray:
    gaps = logits.astype(np.float64) - logits.max()
    return np.array([np.exp(gaps / theta).sum() for theta in temperatures])


@rows
def test_the_denominators_lie_between_their_bounds(row: str) -> None:
    logits = ROWS[row]()
    exact = exact_normalisers(logits, GRID)
    low, estimate, high = np.broadcast_to(
        normalisers(Head.of(logits), Temperatures.of(GRID)), (3, NUM_TEMPERATURES)
    )
    assert (low <= exact * (1 + 1e-5)).all()
    assert (high >= exact * (1 - 1e-5)).all()
    assert (low <= estimate * (1 + 1e-12)).all()
    assert (estimate <= high * (1 + 1e-12)).all()


@pytest.mark.parametrize("scale", [0.3, 1.0, 3.0, 6.0])
@pytest.mark.parametrize("spike", [0.0, 5.0, 12.0])
def test_the_mean_is_within_its_tolerance_of_the_mean_over_all_ids(scale: float, spike: float) -> None:
    logits = normal(scale, spike)
    normaliser = exact_normalisers(logits, GRID)
    for token in (int(np.argmax(logits)), int(np.argsort(-logits)[3])):
        own = np.exp((float(logits[token]) - float(logits.max())) / GRID)
        exact = float(1.0 - (own / normaliser).mean())
        assert perturbation_mean(logits, token) == pytest.approx(exact, abs=TOLERANCE)
        assert perturbation_mean(logits, token) == pytest.approx(exact, abs=0.002)  # the usual error


def test_a_row_whose_bounds_are_far_apart_is_summed_whole() -> None:
    logits = normal(1.0, 5.0)
    token = int(np.argmax(logits))
    high, _, low = token_probs_between(Head.of(logits), token, Temperatures.of(GRID)).mean(axis=1)
    assert high - low > TOLERANCE
    assert perturbation_mean(logits, token) == float(1.0 - token_probs_at(logits, token, GRID).mean())


def test_the_votes_are_those_of_all_ids() -> None:
    logits = normal(3.0, 6.0)
    token = int(np.argmax(logits))
    for seed in range(20):
        numbers = np.array([perturbation_vote(logits, token, seed, 3)]) * NUM_TEMPERATURES
        assert np.round(numbers) == pytest.approx(numbers)
        assert perturbation_vote(logits.astype(np.float64), token, seed, 3) * NUM_TEMPERATURES == numbers[0]


@rows
@pytest.mark.parametrize("name", ["entropy", "max-probability", "margin"])
def test_the_other_estimates_are_those_of_the_whole_row(row: str, name: str) -> None:
    logits = ROWS[row]()
    probs = np.sort(softmax(logits))
    positive = probs[probs > 0.0]
    expected = {
        "entropy": -(positive * np.log(positive)).sum() / np.log(SIZE),
        "max-probability": 1.0 - probs[-1],
        "margin": 1.0 - (probs[-1] - probs[-2]),
    }
    assert ESTIMATORS[name](logits, 0, 1, 1) == pytest.approx(expected[name], abs=1e-4)


def test_an_uncertainty_that_no_gate_asks_for_is_not_measured() -> None:
    def fail(*_: object) -> float:
        raise AssertionError

    for scheme in ("slm", "hlm", "rand-hlm"):
        logits = np.zeros(SMALL, np.float32)
        assert replace(policy(scheme, QWEN), estimator=fail).propose(logits, 3).uncertainty == 0.0


def test_an_estimator_of_ones_own_gets_the_row() -> None:
    logits = np.zeros(SIZE, np.float32)
    logits[0] = 0.25

    def first(row: np.ndarray, *_: object) -> float:
        return float(row[0])

    own = replace(policy("lossless", QWEN), estimator=first)
    assert own.propose(logits, 3).uncertainty == 0.25
