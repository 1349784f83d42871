"""The seam: tasks in, verdicts out, and the facts of a target model. What runs the model lies behind it.

Law: an engine gives the verdicts that `session.judging` defines, or none. What it fails at is either a task's
own fault (an `Unjudged` outcome), or the batch's (any other exception: the worker runs its halves again), or
no task's (`EngineLostError`: devices are asked to try elsewhere, and nothing counts against them).
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

from tokenizers import Tokenizer

from cloud_worker.scheduling.batch import Outcome
from cloud_worker.scheduling.task import Task


class EngineError(Exception):
    """The engine cannot be used; the message states why and what to do."""


class EngineLostError(Exception):
    """The engine cannot be reached or used now, whatever the tasks were: a lost connection, a restart."""


@dataclass(frozen=True, slots=True)
class Part:
    """What a batch led to for one of its tasks, and what this took.

    The outcome None means that only a part of a long task ran: it goes on in a later batch.
    """

    outcome: Outcome
    num_positions: int  # computed
    num_rows: int  # judged
    judging_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Verified:
    """A part per task, in order, and the engine's time apart from judging.

    With several batches at once, `forward_seconds` is this batch's share of the time in which they ran.
    """

    parts: Sequence[Part]
    forward_seconds: float


class Engine(Protocol):
    """What a worker needs of its target model. Entered in the worker's event loop before any other call."""

    vocabulary: Mapping[str, int]
    eos_ids: frozenset[int]
    max_positions: int
    tokenizer: Callable[[], Tokenizer] | None
    """The model's, for grammars (raises UnusableGrammarError); None for an engine that does not apply
    `Job.masks`, so that the worker refuses answers with a grammar."""

    @property
    def batches_at_once(self) -> int:
        """How many calls of `verify` may be in flight; a session is in one of them at most."""
        ...

    @property
    def max_batch(self) -> int | None:
        """The most tasks that one call takes; None: as many as the worker's settings allow."""
        ...

    @property
    def fault(self) -> str | None:
        """Why it cannot serve now, in a few words for /health; None while it can."""
        ...

    @property
    def num_pages(self) -> int:
        """How many pages the caches of all sessions may use together; 0 if it is not known."""
        ...

    @property
    def num_used_pages(self) -> int:
        """How many pages sessions use; a shared page counts once."""
        ...

    def cached_tokens(self, session: Hashable, /) -> int:
        """How many tokens of a session are cached; 0 for an unknown or evicted one."""
        ...

    async def verify(self, tasks: Sequence[Task], rooms: Sequence[int | None]) -> Verified:
        """Run the model for the tasks and judge their drafts.

        `rooms` bounds the positions that each task may compute in this batch (None: no bound). It keeps a
        long task from holding up others, so an engine that schedules its own work may ignore it. Raises
        EngineLostError if no task is at fault, and any other exception if one of them may be.
        """
        ...

    def forget(self, session: Hashable, /) -> None:
        """Drop what is kept of a session, which has ended; an unknown session is not an error.

        It is called while no batch is in flight if `batches_at_once` is 1, otherwise at any time.
        """
        ...

    async def __aenter__(self) -> Self:
        """Begin to serve."""
        ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give everything back; a batch in flight is finished or dropped."""
        ...
