"""Answers of hot or ignorant models under five schemas: each that ends with `stop` is JSON that fits."""

import asyncio
import json
from collections import Counter
from collections.abc import Sequence

import jsonschema
import numpy as np
import pytest

from common.protocol.grammar import Grammar
from edge_agent.agent import EdgeAgent
from edge_agent.config import AgentConfig
from edge_agent.generation.drafting import NextTokenModel
from evaluation.local.broker import LocalBroker
from evaluation.local.worker import LocalWorker
from tests.support.schemas import SCHEMAS

COMMAND = "turn on the kitchen light and close the blinds in the living room"


class Ignorant:
    """A draft model for the demo's tokenizer that knows nothing of JSON, nor of anything else."""

    max_positions = 512

    def logits(self, tokens: Sequence[int]) -> np.ndarray:
        """Random, and the same for the same last tokens."""
        return np.random.default_rng([7, *tokens[-3:]]).normal(size=1280).astype(np.float32)


async def stops(config: AgentConfig, seeds: range, model: NextTokenModel | None = None) -> Counter[str]:
    """How many answers under each schema end with `stop`; all of them have been checked."""
    ended: Counter[str] = Counter()
    async with EdgeAgent.open(config, model=model) as agent:
        for name, schema in SCHEMAS.items():
            grammar = Grammar.json_schema(schema)
            await agent.prepare(grammar)
            for seed in seeds:
                generation = agent.generate(COMMAND, seed=seed, grammar=grammar)
                async for _ in generation:
                    pass
                assert generation.failure is None
                if generation.session.finish_reason == "stop":
                    ended[name] += 1
                    jsonschema.validate(json.loads(generation.text), schema)
    return ended


def test_what_an_ignorant_model_alone_writes_fits_its_schema() -> None:
    config = AgentConfig(scheme="slm", temperature=1.5, max_tokens=120)
    ended = asyncio.run(stops(config, range(8), Ignorant()))
    assert min(ended[name] for name in SCHEMAS) >= 4, ended


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["lossless", "coupled", "opportunistic"])
@pytest.mark.parametrize("model", [None, Ignorant()], ids=["demo", "ignorant"])
def test_a_thousand_hot_answers_fit_their_schemas(
    broker: LocalBroker, scheme: str, model: NextTokenModel | None
) -> None:
    num_seeds = 1000 if scheme == "lossless" else 200
    config = AgentConfig(broker=broker.url, scheme=scheme, temperature=1.5, max_tokens=160)
    with LocalWorker(broker.url, "--model", "demo"):
        ended = asyncio.run(stops(config, range(num_seeds), model))
    # the others are cut by max_tokens: trees and numbers have no end that a hot model would look for
    assert min(ended[name] for name in SCHEMAS) >= num_seeds // 5, ended
