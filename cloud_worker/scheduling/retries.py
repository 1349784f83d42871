"""What follows a failed forward pass: which tasks run again, and whose fault the failure is. Pure.

Law 5: one draft cannot take other sessions down with it. A failed batch runs again as two halves, each half
that fails as two quarters, and so on: only a task that fails alone is refused. A batch of n tasks costs at
most 2n - 1 passes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from cloud_worker.scheduling.task import Task

PASS_ERRORS = (RuntimeError, MemoryError, ValueError)  # torch raises RuntimeError when memory runs out
DETAIL = "the worker's model fails on this draft"


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a forward pass gave no logits."""

    detail: str  # one line, for the log
    is_permanent: bool = False  # the input can never be computed; otherwise a later pass may succeed

    @classmethod
    def of(cls, error: Exception) -> "Failure":
        """The failure behind one of PASS_ERRORS; a ValueError is a token that only the tokenizer knows."""
        return cls(str(error).partition("\n")[0], is_permanent=isinstance(error, ValueError))


@dataclass(frozen=True, slots=True)
class Abandoned:
    """A task whose pass failed with no other task in it, and the reason to send to its edge."""

    task: Task
    detail: str
    is_its_fault: bool  # the draft can never be verified: the edge need not try again


class Retries:
    """Parts of failed batches that have yet to run again, first half first."""

    def __init__(self) -> None:
        self._batches: list[Sequence[Task]] = []  # the next one last

    def __len__(self) -> int:
        """How many tasks have yet to run again."""
        return sum(map(len, self._batches))

    def add(self, tasks: Sequence[Task], failure: Failure) -> Abandoned | None:
        """Take in a failed batch: both halves run again, or its only task is abandoned."""
        if len(tasks) == 1:
            return Abandoned(tasks[0], DETAIL, is_its_fault=failure.is_permanent)
        middle = len(tasks) // 2
        self._batches += [tasks[middle:], tasks[:middle]]
        return None

    def take(self) -> list[Task]:
        """The next batch to run again."""
        return list(self._batches.pop())
