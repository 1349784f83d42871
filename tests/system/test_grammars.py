"""Answers that must match a grammar, over a real broker and worker."""

import asyncio
import json

import jsonschema
import pytest

from common.protocol.grammar import Grammar
from edge_agent.agent import EdgeAgent
from edge_agent.config import AgentConfig
from edge_agent.errors import GrammarError
from edge_agent.generation.generation import Generation
from edge_agent.session.transcript import Fate
from evaluation.local.broker import LocalBroker
from evaluation.local.worker import LocalWorker
from tests.support.schemas import ACTIONS

COMMAND = "turn on the kitchen light and close the blinds in the living room"
SCHEMES = ("slm", "llm", "u-hlm", "opportunistic", "lossless", "coupled")


async def answer(config: AgentConfig, grammar: Grammar, seeds: range = range(1)) -> list[Generation]:
    generations: list[Generation] = []
    async with EdgeAgent.open(config) as agent:
        await agent.prepare(grammar)
        for seed in seeds:
            generations.append(agent.generate(COMMAND, seed=seed, grammar=grammar))
            async for _ in generations[-1]:
                pass
    return generations


def test_every_scheme_answers_with_json_that_fits_and_forced_tokens_cost_nothing(broker: LocalBroker) -> None:
    grammar = Grammar.json_schema(ACTIONS)
    with LocalWorker(broker.url, "--model", "demo"):
        for scheme in SCHEMES:
            config = AgentConfig(broker=broker.url, scheme=scheme, temperature=1.5, max_tokens=80)
            for one in asyncio.run(answer(config, grammar, range(2))):
                assert (one.failure, one.session.finish_reason) == (None, "stop"), scheme
                jsonschema.validate(json.loads(one.text), ACTIONS)
                forced = one.session.tally.num_by_fate[Fate.FORCED]
                assert forced == 0 if scheme == "llm" else forced > one.session.tally.num_tokens / 3


def test_a_grammar_that_does_not_compile_is_one_line_before_the_answer() -> None:
    async def ask() -> None:
        async with EdgeAgent.open(AgentConfig(scheme="slm")) as agent:
            for wrong in (
                Grammar.json_schema({"type": "no such type"}),
                Grammar.regex("[a-"),
                Grammar.lark("x"),
            ):
                with pytest.raises(GrammarError) as caught:
                    agent.generate(COMMAND, grammar=wrong)
                assert "\n" not in str(caught.value)

    asyncio.run(ask())
