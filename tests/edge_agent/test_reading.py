"""A long prompt is read in runs: its progress is seen, and a generation that ends does not wait for it."""

import asyncio
import io
import threading
from collections.abc import Generator, Sequence
from contextlib import closing

import numpy as np
import pytest

from edge_agent import AgentConfig, EdgeAgent
from edge_agent.cli.command_line import run
from edge_agent.cli.prompt_progress import LONG_PROMPT, PromptProgress
from edge_agent.cli.terminal import ERASE
from edge_agent.draft_model.draft_model import CHUNK, DraftModel
from edge_agent.draft_model.files import DEMO_FOLDER

TOKENS = [index % 200 + 5 for index in range(2 * CHUNK + 40)]


@pytest.fixture(scope="module")
def model() -> DraftModel:
    return DraftModel.load(DEMO_FOLDER, num_threads=1)


@pytest.mark.parametrize("splits_matter", [True, False])
def test_reading_can_be_left_between_two_runs_and_goes_on_from_there(
    model: DraftModel, splits_matter: bool
) -> None:
    model.splits_matter = splits_matter
    model.begin_text(len(TOKENS))
    model.logits([1])
    expected = model.logits(TOKENS)
    model.logits([1])
    with closing(model.reading(TOKENS)) as steps:
        num_read, num_tokens = next(steps)
    assert (num_tokens, num_read < num_tokens) == (len(TOKENS), True)
    assert model.num_unread(TOKENS, len(TOKENS)) == num_tokens - num_read
    beginning = model.logits(TOKENS[:num_read])  # what the cache holds now, without its logits
    assert np.isfinite(beginning).all()
    assert np.array_equal(model.logits(TOKENS), expected)


def test_tokens_drafted_one_by_one_are_no_reading(model: DraftModel) -> None:
    model.splits_matter = False
    model.begin_text(3)
    assert [step for length in (3, 4, 5) for step in model.reading(TOKENS[:length])] == []


class Reader:
    """Reads for ever, run after run, until it is stopped."""

    max_positions = 4000

    def __init__(self) -> None:
        self.is_reading = threading.Event()
        self.was_left = False
        self.cached: Sequence[int] = ()

    def another(self) -> "Reader":
        return Reader()

    def begin_text(self, num_prompt: int) -> None:
        pass

    def num_unread(self, tokens: Sequence[int], num_prompt: int) -> int:  # noqa: ARG002
        return len(tokens)

    def logits(self, tokens: Sequence[int]) -> np.ndarray:
        raise AssertionError(f"{len(tokens)} tokens in one call")

    def reading(self, tokens: Sequence[int]) -> Generator[tuple[int, int], None, np.ndarray]:
        try:
            while True:
                yield 1, len(tokens)
                self.is_reading.set()
        finally:
            self.was_left = True


def test_a_cancelled_generation_leaves_its_prompt() -> None:
    async def scenario() -> tuple[Reader, int]:
        reader, seen = Reader(), list[int]()
        async with EdgeAgent.open(AgentConfig(scheme="slm", raw=True), model=reader) as agent:
            generation = agent.generate("turn on the light")
            generation.watch_prompt(lambda num_read, _: seen.append(num_read))

            async def consume() -> None:
                async for _ in generation:
                    pass

            task = asyncio.create_task(consume())
            await asyncio.to_thread(reader.is_reading.wait)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        return reader, len(seen)

    reader, num_seen = asyncio.run(asyncio.wait_for(scenario(), 30))
    assert reader.was_left
    assert num_seen > 0


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("is_terminal", [True, False])
@pytest.mark.parametrize("quiet", [True, False])
@pytest.mark.parametrize("num_tokens", [LONG_PROMPT, LONG_PROMPT + 1])
def test_progress_is_shown_on_a_terminal_above_512_tokens_and_erased(
    monkeypatch: pytest.MonkeyPatch, is_terminal: bool, quiet: bool, num_tokens: int
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal() if is_terminal else io.StringIO()
    progress = PromptProgress(stream, quiet=quiet)
    progress.show(32, num_tokens)
    shown = stream.getvalue()
    assert (f"reading the prompt: 32 of {num_tokens} tokens" in shown) == (
        is_terminal and not quiet and num_tokens > LONG_PROMPT
    )
    progress.show(num_tokens, num_tokens)
    progress.clear()
    assert stream.getvalue().count("\n") == 0
    assert not shown or stream.getvalue().endswith(f"\r{ERASE}")
    assert shown or not stream.getvalue()


def test_generate_says_at_the_beginning_that_an_answer_must_end_early(
    capsys: pytest.CaptureFixture[str],
) -> None:
    run(["generate", "on " * 500, "--scheme", "slm", "--raw", "--seed", "1", "--max-tokens", "400"])
    first, *_ = capsys.readouterr().err.splitlines()
    assert "this answer can have at most" in first
    run(["generate", "on", "--scheme", "slm", "--raw", "--seed", "1", "--max-tokens", "4"])
    assert "at most" not in capsys.readouterr().err
