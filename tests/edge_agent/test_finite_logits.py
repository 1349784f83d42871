"""Logits of the draft model that are not finite: an error at once, never a token that counts as certain."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from common.sampling.distribution import Sampling
from edge_agent.agent import EdgeAgent
from edge_agent.config import AgentConfig
from edge_agent.errors import ModelError
from edge_agent.generation.generation import Generation
from edge_agent.policy.policy import Decision, Policy, check_finite
from edge_agent.policy.schemes import SCHEMES, Gate
from edge_agent.policy.uncertainty import ESTIMATORS
from tests.support.small_models import VOCAB_SIZE, FolderOf

SIZE, POSITION = 300, 17
INF, NAN = np.inf, np.nan
DRAFTING = [name for name, scheme in SCHEMES.items() if scheme.drafts]
SAMPLINGS = [
    Sampling(0.0),
    Sampling(1.0),
    Sampling(0.7, top_k=5),
    Sampling(1.0, top_p=0.9),
    Sampling(1.3, top_k=8, top_p=0.5),
]


def healthy() -> np.ndarray:
    return np.random.default_rng(3).normal(size=SIZE).astype(np.float32) * 2


def with_entries(value: float, *ids: int) -> np.ndarray:
    logits = healthy()
    logits[list(ids)] = value
    return logits


BROKEN = {
    "one NaN": with_entries(NAN, 7),
    "a NaN at the first id": with_entries(NAN, 0),
    "a NaN at the last id": with_entries(NAN, SIZE - 1),
    "only NaN": np.full(SIZE, NAN, np.float32),
    "one +inf": with_entries(INF, 7),
    "several +inf": with_entries(INF, 7, 8, 9),
    "+inf and -inf": np.where(np.arange(SIZE) == 4, INF, -INF).astype(np.float32),
    "only -inf": np.full(SIZE, -INF, np.float32),
    "-inf and NaN": np.where(np.arange(SIZE) == 4, NAN, -INF).astype(np.float32),
    "a NaN in half precision": with_entries(NAN, 7).astype(np.float16),
    "an overflow of half precision": with_entries(INF, 1, 3, 5).astype(np.float16),
}


def policy(scheme: str, sampling: Sampling, estimator: str = "perturbation-mean") -> Policy:
    row = SCHEMES[scheme]
    return Policy(row, sampling, seed=1, threshold=row.threshold, estimator=ESTIMATORS[estimator])


@pytest.mark.parametrize("logits", BROKEN.values(), ids=list(BROKEN))
@pytest.mark.parametrize("scheme", DRAFTING)
@pytest.mark.filterwarnings("error")
def test_no_scheme_draws_from_logits_that_are_not_finite(scheme: str, logits: np.ndarray) -> None:
    for sampling in SAMPLINGS:
        with pytest.raises(ModelError, match="numbers that are not finite at position 17"):
            policy(scheme, sampling).propose(logits, POSITION)


@pytest.mark.parametrize("logits", BROKEN.values(), ids=list(BROKEN))
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_no_estimator_is_asked_about_them(estimator: str, logits: np.ndarray) -> None:
    with pytest.raises(ModelError, match="position 17"):
        policy("opportunistic", Sampling(1.0), estimator).propose(logits, POSITION)


def test_the_message_is_one_line_that_names_another_precision() -> None:
    with pytest.raises(ModelError) as caught:
        check_finite(BROKEN["one NaN"], POSITION)
    message = str(caught.value)
    assert message.isprintable()
    assert "precision" in message
    assert "`model_file`" in message


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("scheme", DRAFTING)
@pytest.mark.parametrize("lowest", [-INF, float(np.finfo(np.float32).min)])
@pytest.mark.filterwarnings("error")
def test_ids_that_are_ruled_out_are_never_drawn_and_disturb_nothing(
    lowest: float, scheme: str, estimator: str
) -> None:
    for num_left, sampling in product((1, 2, SIZE // 2, SIZE - 1), SAMPLINGS):
        allowed = np.random.default_rng(5).permutation(SIZE)[:num_left]
        logits = np.full(SIZE, lowest, np.float32)
        logits[allowed] = healthy()[allowed]
        proposal = policy(scheme, sampling, estimator).propose(logits, POSITION)
        assert proposal.draft.token in allowed
        assert 0.0 <= proposal.uncertainty <= 1.0
        assert 0.0 < proposal.prob <= 1.0


@pytest.mark.parametrize("scheme", [name for name, row in SCHEMES.items() if row.gate is Gate.UNCERTAIN])
def test_an_uncertainty_that_is_no_number_is_not_certain(scheme: str) -> None:
    def lost(*_: object) -> float:
        return NAN

    proposal = replace(policy(scheme, Sampling(1.0)), estimator=lost).propose(healthy(), POSITION)
    assert proposal.decision is Decision.UPLINK


# -- in a generation -----------------------------------------------------------------------------------


class Failing:
    """Writes the alphabet and breaks at one position; beyond the vocabulary it never returns numbers."""

    max_positions = 200

    def __init__(self, broken: float) -> None:
        self.position: int | None = None
        self._broken = broken

    def logits(self, tokens: Sequence[int]) -> np.ndarray:
        logits = np.full(VOCAB_SIZE + 3, NAN, np.float32)
        logits[:VOCAB_SIZE] = -20.0
        logits[97 + len(tokens) % 26] = 20.0
        if len(tokens) == self.position:
            logits[:VOCAB_SIZE] = self._broken
        return logits


async def take(generation: Generation, got: list[int | None]) -> None:
    async for token in generation:
        got.append(token.token)


@pytest.mark.parametrize("broken", [NAN, INF, -INF])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_generation_ends_with_the_error_and_the_next_one_is_not_disturbed(
    temperature: float, broken: float, draft_folder: FolderOf
) -> None:
    async def scenario() -> None:
        model = Failing(broken)
        config = AgentConfig(
            model=str(draft_folder("llama")), scheme="slm", max_tokens=6, temperature=temperature, seed=1
        )
        async with EdgeAgent.open(config, model=model) as agent:
            undisturbed: list[int | None] = []
            await take(agent.generate("turn on"), undisturbed)
            generation = agent.generate("turn on")
            num_prompt = len(generation.session.tokens)
            model.position = num_prompt + 3
            got: list[int | None] = []
            with pytest.raises(ModelError, match=f"at position {num_prompt + 3}:"):
                await take(generation, got)
            assert got == undisturbed[:3]
            model.position = None
            again: list[int | None] = []
            await take(agent.generate("turn on"), again)
            assert again == undisturbed

    asyncio.run(scenario())
