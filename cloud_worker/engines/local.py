"""The engine of a target model in this process: one batch at a time, in a thread.

Long prompts are computed in chunks, beside the verifications of other sessions. The event loop goes on
reading and answering while the thread computes.
"""

import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import partial
from types import TracebackType
from typing import Protocol, Self

from tokenizers import Tokenizer

from cloud_worker.engines.engine import Part, Verified
from cloud_worker.passes.forward_pass import Pass
from cloud_worker.scheduling.batch import Batch
from cloud_worker.scheduling.task import Task
from cloud_worker.session.job import Rows
from common.process.model_thread import ModelThread


class Model(Protocol):
    """A target model, as this engine needs it."""

    vocabulary: Mapping[str, int]
    eos_ids: frozenset[int]
    max_positions: int

    @property
    def num_pages(self) -> int:
        """How many pages the caches of all sessions may use together."""
        ...

    @property
    def num_used_pages(self) -> int:
        """How many pages sessions use."""
        ...

    def cached_tokens(self, session: Hashable, /) -> int:
        """How many tokens of a session are cached."""
        ...

    def num_missing(self, one: Pass, /) -> int:
        """How many positions a pass would compute now."""
        ...

    def logits(self, passes: Sequence[Pass], /) -> Sequence[Rows]:
        """One array [num_rows, vocab_size] per pass, in order."""
        ...

    def forget(self, session: Hashable, /) -> None:
        """Drop a session's cache."""
        ...


class LocalEngine:
    """Runs batches of a model in a thread of its own; enter it before `verify`."""

    batches_at_once = 1
    max_batch = None
    fault = None

    def __init__(
        self,
        model: Model,
        chunk_tokens: int = 256,
        verify: Callable[[Batch], Verified] | None = None,
        tokenizer: Callable[[], Tokenizer] | None = None,
    ) -> None:
        """`chunk_tokens` bounds the new tokens of one session in one batch.

        `verify` runs a batch and judges it where the logits lie; without it, the rows of `model.logits` are
        judged by the reference, in numpy. Without a `tokenizer`, there are no grammars.
        """
        self._model = model
        self._run = verify or self._run_by_rows
        self._chunk_tokens = chunk_tokens
        self._thread = ModelThread()
        self.tokenizer = tokenizer
        self.vocabulary = model.vocabulary
        self.eos_ids = model.eos_ids
        self.max_positions = model.max_positions

    async def __aenter__(self) -> Self:
        self._thread.__enter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._thread.__exit__(kind, error, trace)

    @property
    def num_pages(self) -> int:
        """How many pages the caches of all sessions may use together."""
        return self._model.num_pages

    @property
    def num_used_pages(self) -> int:
        """How many pages sessions use; a shared page counts once."""
        return self._model.num_used_pages

    def cached_tokens(self, session: Hashable) -> int:
        """How many tokens of a session are cached; 0 for an unknown or evicted one."""
        return self._model.cached_tokens(session)

    def forget(self, session: Hashable) -> None:
        """Drop a session's cache; an unknown session is not an error."""
        self._model.forget(session)

    async def verify(self, tasks: Sequence[Task], rooms: Sequence[int | None]) -> Verified:
        """Run one forward pass for the tasks and judge its rows; whatever the model raises is raised."""
        return await self._thread.start(partial(self._verify, tasks, rooms))

    def _verify(self, tasks: Sequence[Task], rooms: Sequence[int | None]) -> Verified:
        return self._run(Batch.of(tasks, self._model.num_missing, self._chunk_tokens, rooms))

    def _run_by_rows(self, batch: Batch) -> Verified:
        began = time.perf_counter()
        rows = self._model.logits(batch.passes)
        then = time.perf_counter()
        forward_seconds = then - began
        parts: list[Part] = []
        sizes = zip(batch.chunks, batch.num_positions, strict=True)
        for outcome, (chunk, count) in zip(batch.judging(rows), sizes, strict=True):
            now = time.perf_counter()
            parts.append(Part(outcome, count, chunk.num_rows if chunk else 0, now - then))
            then = now
        return Verified(parts, forward_seconds)
