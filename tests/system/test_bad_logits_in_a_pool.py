"""A text for which the target model gives no finite logits: the device ends, and the pool goes on."""

import asyncio
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer

from cloud_worker.config import WorkerConfig
from cloud_worker.engines.local import LocalEngine
from cloud_worker.monitoring.tally import ErrorKind
from cloud_worker.passes.forward_pass import Pass
from cloud_worker.session.job import Rows
from cloud_worker.target_model import TargetModel
from cloud_worker.worker import Worker
from edge_agent.agent import EdgeAgent
from edge_agent.config import AgentConfig
from evaluation.local.broker import LocalBroker
from tests.support.small_models import FolderOf, SmallModels

GOOD, BAD = "turn on the kitchen light", "what is the temperature in the kitchen?"


class Overflowing:
    """A real target model whose logits are NaN after the tokens of one prompt."""

    def __init__(self, folder: Path) -> None:
        self._model = TargetModel.load(str(folder))
        self.vocabulary: Mapping[str, int] = self._model.vocabulary
        self.eos_ids, self.max_positions = self._model.eos_ids, self._model.max_positions
        self.num_pages = self.num_used_pages = 0
        self._bad = Tokenizer.from_file(str(folder / "tokenizer.json")).encode(BAD).ids[2:-1]

    def num_missing(self, one: Pass) -> int:
        return self._model.num_missing(one)

    def forget(self, session: Hashable) -> None:
        self._model.forget(session)

    def cached_tokens(self, session: Hashable) -> int:
        return self._model.cached_tokens(session)

    def logits(self, passes: Sequence[Pass]) -> list[Rows]:
        rows = self._model.logits(passes)
        return [
            np.full_like(each, np.nan) if self._is_bad(list(one.tokens)) else each
            for one, each in zip(passes, rows, strict=True)
        ]

    def _is_bad(self, tokens: list[int]) -> bool:
        length = len(self._bad)
        return any(tokens[begin : begin + length] == self._bad for begin in range(len(tokens)))


async def outcome(config: AgentConfig, prompt: str) -> tuple[list[int | None], str | None]:
    async with EdgeAgent.open(config) as agent:
        generation = agent.generate(prompt)
        return [token.token async for token in generation], generation.failure


@pytest.mark.parametrize(
    ("scheme", "sampling"),
    [
        ("lossless", {}),
        ("lossless", {"top_p": 0.9}),
        ("lossless", {"temperature": 0.0}),
        ("coupled", {"top_k": 5}),
        ("llm", {}),
    ],
)
def test_the_device_gets_a_clear_error_and_no_worker_of_the_pool_is_harmed(
    broker: LocalBroker, models: SmallModels, draft_folder: FolderOf, scheme: str, sampling: dict[str, float]
) -> None:
    name = f"pool-{scheme}-{'-'.join(sampling) or 'plain'}"
    config = AgentConfig(
        broker=broker.url, pool=name, device="lamp", model=str(draft_folder("llama")), scheme=scheme,
        seed=7, temperature=1.0, max_tokens=12, cloud_timeout=20.0,
    )  # fmt: skip
    config = replace(config, **sampling)

    async def scenario() -> tuple[list[Worker], list[tuple[list[int | None], str | None]]]:
        workers = [
            Worker(
                WorkerConfig(broker=broker.url, pool=name, worker=f"{name}-{i}"),
                LocalEngine(Overflowing(models.target("llama"))),
            )
            for i in range(2)
        ]
        running = [asyncio.create_task(worker.run()) for worker in workers]
        outcomes = [await outcome(config, prompt) for prompt in (GOOD, BAD, GOOD)]
        assert not any(task.done() for task in running)
        for worker in workers:
            worker.stop()
        await asyncio.gather(*running)
        return workers, outcomes

    workers, (before, (bad, failure), after) = asyncio.run(scenario())
    assert before == after
    assert before[1] is None
    assert bad == []
    assert failure is not None
    assert "the target model gives no finite logits" in failure
    assert "\n" not in failure
    counts = [worker.snapshot().tally.num_errors[ErrorKind.LOGITS] for worker in workers]
    assert 2 <= sum(counts) <= 4  # twice at each worker: two must agree before the device gives up
