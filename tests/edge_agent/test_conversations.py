"""Several conversations at once on one draft model: each text is the one that it gets alone."""

# its caches show only inside
# pyright: reportPrivateUsage=false

import asyncio
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from edge_agent import AgentConfig, ConfigError, EdgeAgent
from edge_agent.draft_model.canonical_runs import RUN
from edge_agent.draft_model.draft_model import DraftModel
from edge_agent.draft_model.files import DEMO_FOLDER
from edge_agent.draft_model.kv_cache import GrowingCache
from edge_agent.draft_model.prompt_store import LEAST_GAIN
from edge_agent.export.graphs import build_rounded
from edge_agent.export.quiet import quiet
from edge_agent.generation.draft_thread import DraftThread, Steps
from edge_agent.generation.generation import Generation
from edge_agent.generation.slots import Slots
from tests.support.small_models import VOCAB_SIZE, FolderOf

PATIENCE = 60.0
SHARED = "turn on the light in the kitchen and close the window of the hall, " * 6
PROMPTS = [
    "turn on the kitchen light",
    f"{SHARED}then open the door",
    f"{SHARED}then wait",
    "what is the temperature?",
]


async def consume(generation: Generation) -> Generation:
    async for _ in generation:
        pass
    return generation


@pytest.fixture(scope="module", params=["float", "int8"])
def folder(
    request: pytest.FixtureRequest, family_folder: FolderOf, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The demo model, and a small one whose numbers depend on how tokens are split into runs."""
    precision: Literal["float", "int8"] = request.param
    if precision == "float":
        return DEMO_FOLDER
    out = tmp_path_factory.mktemp("int8")
    with quiet():
        build_rounded(family_folder("llama"), out, "int8", False, print)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (out / name).write_bytes((family_folder("llama") / name).read_bytes())
    return out


def model_of(folder: Path) -> DraftModel:
    model = DraftModel.load(folder, num_threads=1)
    model.splits_matter = folder != DEMO_FOLDER  # on every processor
    return model


def config_of(folder: Path, slots: int = 1) -> AgentConfig:
    return AgentConfig(model=str(folder), scheme="slm", temperature=1.0, max_tokens=24, raw=True, slots=slots)


async def alone(folder: Path, seed: int) -> list[list[int]]:
    texts: list[list[int]] = []
    for prompt in PROMPTS:
        async with EdgeAgent.open(config_of(folder), model=model_of(folder)) as agent:
            texts.append(list((await consume(agent.generate(prompt, seed=seed))).session.tokens))
    return texts


@pytest.mark.parametrize("seed", [1, 2])
def test_texts_at_once_are_those_alone(folder: Path, seed: int) -> None:
    async def at_once() -> list[list[int]]:
        async with EdgeAgent.open(config_of(folder, slots=4), model=model_of(folder)) as agent:
            texts: list[list[list[int]]] = []
            for _ in range(2):  # the second time all beginnings are cached
                tasks = [consume(agent.generate(prompt, seed=seed)) for prompt in PROMPTS]
                texts.append([list(one.session.tokens) for one in await asyncio.gather(*tasks)])
            assert texts[0] == texts[1]
            return texts[0]

    assert asyncio.run(at_once()) == asyncio.run(alone(folder, seed))


def test_cancelling_one_leaves_the_others_and_its_slot_can_be_used_again(folder: Path) -> None:
    async def scenario() -> list[list[int]]:
        async with EdgeAgent.open(config_of(folder, slots=2), model=model_of(folder)) as agent:
            long_prompt = agent.generate(SHARED * 2 + "and then", seed=1)
            read = asyncio.Event()
            long_prompt.watch_prompt(lambda _num_read, _num_tokens: read.set())
            cancelled = asyncio.create_task(consume(long_prompt))
            others = [asyncio.create_task(consume(agent.generate(PROMPTS[0], seed=1)))]
            await read.wait()
            cancelled.cancel()
            others += [asyncio.create_task(consume(agent.generate(prompt, seed=1))) for prompt in PROMPTS[1:]]
            done = await asyncio.gather(*others)
            assert (agent.num_running, agent.num_waiting) == (0, 0)
            with pytest.raises(asyncio.CancelledError):
                await cancelled
            return [list(one.session.tokens) for one in done]

    assert asyncio.run(asyncio.wait_for(scenario(), PATIENCE)) == asyncio.run(alone(folder, 1))


class Gate:
    """A model whose calls note their order; the first one waits until it is let go."""

    max_positions = 200

    def __init__(self) -> None:
        self.let_go = threading.Event()
        self.asked: list[int] = []

    def logits(self, tokens: Sequence[int]) -> np.ndarray:
        assert self.asked or self.let_go.wait(PATIENCE)
        self.asked.append(len(tokens))
        return np.zeros(VOCAB_SIZE, dtype=np.float32)


def test_one_more_than_there_are_slots_waits_in_order_of_arrival(draft_folder: FolderOf) -> None:
    async def scenario() -> None:
        gate, ended = Gate(), list[int]()
        config = AgentConfig(model=str(draft_folder("llama")), scheme="slm", max_tokens=2, slots=2)
        async with EdgeAgent.open(config, model=gate) as agent:

            async def answer(number: int) -> None:
                await consume(agent.generate("turn on", seed=1))
                ended.append(number)

            tasks = [asyncio.create_task(answer(number)) for number in range(6)]
            while agent.num_waiting < 4:
                await asyncio.sleep(0)
            assert (agent.num_slots, agent.num_running) == (2, 2)
            gate.let_go.set()
            await asyncio.gather(*tasks)
        assert ended == list(range(6))

    asyncio.run(asyncio.wait_for(scenario(), PATIENCE))


def test_a_long_prompt_lets_a_token_go_after_its_run_and_other_prompts_in_turn() -> None:
    went: list[str] = []
    is_running, let_go = threading.Event(), threading.Event()

    def runs(name: str, num_runs: int) -> Steps[str]:
        for number in range(num_runs):
            if number:
                yield
            went.append(f"{name}{number}")
            is_running.set()
            assert let_go.wait(PATIENCE)
        return name

    async def scenario() -> None:
        with DraftThread() as thread:
            calls = [thread.start("a", runs("a", 3), reads=True)]
            await asyncio.to_thread(is_running.wait)
            calls.append(thread.start("b", runs("b", 2), reads=True))
            calls.append(thread.start("c", runs("c", 1)))
            let_go.set()
            assert await asyncio.gather(*calls) == ["a", "b", "c"]

    asyncio.run(asyncio.wait_for(scenario(), PATIENCE))
    assert went == ["a0", "c0", "b0", "a1", "b1", "a2"]


def test_closing_the_thread_ends_a_reading_first() -> None:
    async def scenario() -> list[int]:
        with DraftThread() as thread:
            reading = thread.start("prompt", (_ for _ in range(50)), reads=True)
        await reading
        return [1]

    assert asyncio.run(asyncio.wait_for(scenario(), PATIENCE)) == [1]


@pytest.mark.parametrize("splits_matter", [True, False])
@pytest.mark.parametrize("is_growing", [True, False])
def test_a_sequence_copies_what_another_has_read_and_changes_nothing_there(
    splits_matter: bool, is_growing: bool
) -> None:
    first = DraftModel.load(DEMO_FOLDER, num_threads=1)
    if is_growing:
        cache = GrowingCache(first._session, first._graph.cache)
        first = DraftModel(first._session, first._graph, cache, first.max_positions)
    first.splits_matter = splits_matter
    second, alone = first.another(), DraftModel.load(DEMO_FOLDER, num_threads=1)
    alone.splits_matter = splits_matter
    system = [index * 7 % 200 + 5 for index in range(3 * RUN + 5)]
    one, other = [*system, 1, 2, 3], [*system, 7, 8]
    first.begin_text(len(one))
    before = first.logits([*one, 9])
    assert second.num_unread(other, len(other)) <= 2 + len(system) % RUN
    second.begin_text(len(other))
    steps = list(second.reading(other))
    assert steps in ([], [(len(steps), len(steps))]) or steps[-1][1] <= 2 + len(system) % RUN
    alone.begin_text(len(other))
    compare = np.array_equal if splits_matter else np.allclose
    assert compare(second.logits(other), alone.logits(other))
    assert list(first.cached) == [*one, 9]
    assert np.array_equal(first.logits([*one, 9]), before)
    first.logits([*one[: LEAST_GAIN + 1], 4])  # what it loses does not matter to the other
    assert compare(second.logits([*other, 5]), alone.logits([*other, 5]))


def test_each_conversation_continues_in_its_own_slot() -> None:
    async def scenario() -> list[int]:
        model, unread = DraftModel.load(DEMO_FOLDER, num_threads=1), list[int]()
        slots = Slots(model, 2)
        talks = [[5, 6, 7], [5, 6, 8]]
        for turn in range(3):
            for talk in talks:
                talk += [turn + 10, turn + 20]
                async with slots.one_for(talk) as sequence:
                    assert isinstance(sequence, DraftModel)
                    unread.append(sequence.num_unread(talk, len(talk)))
                    sequence.logits(talk)
        return unread

    model = DraftModel.load(DEMO_FOLDER, num_threads=1)
    assert not model.splits_matter
    assert asyncio.run(scenario())[2:] == [2] * 4


def test_too_many_slots_are_refused() -> None:
    for slots in (0, 17):
        with pytest.raises(ConfigError, match="`slots` must be between 1 and 16"):
            AgentConfig(slots=slots)
