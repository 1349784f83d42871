"""Generations through real processes, and what the target model writes by itself, for comparison."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from edge_agent.agent import EdgeAgent
from edge_agent.config import AgentConfig
from edge_agent.generation.generation import Generation


async def generate(
    config: AgentConfig, *prompts: str, midway: Callable[[Generation], None] | None = None, after: int = 8
) -> list[Generation]:
    """Run prompts through one agent; `midway` is called when `after` tokens of the first are final."""
    generations: list[Generation] = []
    async with EdgeAgent.open(config) as agent:
        for prompt in prompts:
            generation = agent.generate(prompt)
            generations.append(generation)
            count = 0
            async for _ in generation:
                count += 1
                if midway is not None and count == after:
                    await asyncio.to_thread(midway, generation)
                    midway = None
    return generations


def answers(generations: list[Generation]) -> list[list[int]]:
    """The tokens that each generation gave, without the prompt."""
    assert [one.session.failure for one in generations] == [None] * len(generations)
    return [list(one.session.tokens)[-one.session.tally.num_tokens :] for one in generations]


def greedy_answers(folder: Path, generations: list[Generation]) -> list[list[int]]:
    """What the target model writes by itself, greedily, for the same prompts and as many tokens."""
    # the models of transformers do not fit the type that their own `generate` asks for
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    texts: list[list[int]] = []
    for one in generations:
        num_tokens = one.session.tally.num_tokens
        prompt = list(one.session.tokens)[:-num_tokens]
        output = model.generate(
            torch.tensor([prompt]),
            attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
            do_sample=False,
            temperature=None,
            max_new_tokens=num_tokens,
        )
        texts.append(output[0, len(prompt) :].tolist())
    return texts
