"""The masked target's law through the real path: broker, worker, agent, and the demo's models."""

import asyncio
from collections import Counter

import numpy as np
import pytest
from scipy import stats

from cloud_worker.passes.forward_pass import Pass
from cloud_worker.target_model import TargetModel
from common.grammar.answer import AnswerMasks
from common.grammar.engine import GrammarEngine
from common.protocol.grammar import Grammar
from common.sampling.distribution import Sampling, fit_vocabulary, warp
from common.sampling.mask import forbid
from edge_agent.agent import EdgeAgent
from edge_agent.config import AgentConfig
from evaluation.local.broker import LocalBroker
from evaluation.local.worker import LocalWorker
from tests.support.narrowing import present

COMMAND = "turn on the kitchen light and close the blinds in the living room"
GRAMMAR = Grammar.regex("[a-z]{1,3}")  # hundreds of tokens may come first
SAMPLING = Sampling(1.5)


def masked_law(prompt: list[int]) -> np.ndarray:
    """The target's law of the first token, renormalised over what the grammar allows."""
    model = TargetModel.load("demo")
    masks = AnswerMasks(GrammarEngine(model.tokenizer).compile(GRAMMAR), len(prompt), [3], closing=3)
    (rows,) = model.logits([Pass("law", tuple(prompt), 1)])
    row = fit_vocabulary(rows[0], max(model.vocabulary.values()) + 1)
    return warp(forbid(row, present(masks.mask(prompt, len(prompt)))), SAMPLING)


async def first_tokens(config: AgentConfig, num_seeds: int) -> tuple[list[int], Counter[int]]:
    """The prompt's tokens, and how often each token came first."""
    counts: Counter[int] = Counter()
    prompt: list[int] = []
    async with EdgeAgent.open(config) as agent:
        await agent.prepare(GRAMMAR)
        for seed in range(num_seeds):
            generation = agent.generate(COMMAND, seed=seed, grammar=GRAMMAR)
            async for _ in generation:
                pass
            *prompt, token = generation.session.tokens
            counts[token] += 1
    return prompt, counts


@pytest.mark.slow
@pytest.mark.parametrize(("scheme", "num_seeds"), [("lossless", 20_000), ("coupled", 4000), ("hlm", 2000)])
def test_many_seeds_give_the_masked_targets_law_through_the_broker(
    broker: LocalBroker, scheme: str, num_seeds: int
) -> None:
    config = AgentConfig(broker=broker.url, scheme=scheme, temperature=SAMPLING.temperature, max_tokens=1)
    with LocalWorker(broker.url, "--model", "demo"):
        prompt, counts = asyncio.run(first_tokens(config, num_seeds))
    expected = masked_law(prompt) * num_seeds
    found = np.array([counts[token] for token in range(len(expected))])
    common = expected >= 5  # a chi-square test needs as many in each class
    assert common.sum() > 5
    assert not found[expected == 0.0].any()
    rest = expected[~common].sum()
    wanted = np.append(expected[common], rest) if rest > 0.0 else expected[common]
    got = np.append(found[common], found[~common].sum()) if rest > 0.0 else found[common]
    assert stats.chisquare(got, wanted).pvalue > 0.001
