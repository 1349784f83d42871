"""What follows a failed forward pass or verdict: which tasks run again, and whose fault it is. Pure.

Law 5: one draft cannot take other sessions down with it. A failed batch runs again as two halves, each half
that fails as two quarters, and so on: only a task that fails alone is refused. A batch of n tasks costs at
most 2n - 1 passes. A task that cannot be judged fails alone from the start.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from cloud_worker.scheduling.task import Task
from cloud_worker.session.judging import Judged, LogitsError
from common.grammar.errors import GrammarSourceError, UnusableGrammarError

PASS_ERRORS = (Exception,)  # torch raises RuntimeError when memory runs out, models whatever they like
MAX_FAILURES = 5  # in a row, with the session alone in the batch; the pauses between them double
MAX_LOGITS_FAILURES = (
    2  # the second time, the cache of the first is gone: it is the text, not a fault of memory
)
GRAMMAR_DETAIL = "the grammar becomes too complex in the text, or leads where no token can follow"
DETAIL = "the worker's model fails on this draft"


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a forward pass gave no logits, or a task no verdict."""

    detail: str  # one line, for the log
    is_permanent: bool = False  # the input can never be computed; otherwise a later pass may succeed
    max_failures: int = MAX_FAILURES  # in a row; then the device is told not to ask again
    told: str = DETAIL  # one line, for the device

    @classmethod
    def of(cls, error: Exception) -> "Failure":
        """The failure behind one of PASS_ERRORS; a ValueError is a token that only the tokenizer knows."""
        return cls(_one_line(error), is_permanent=isinstance(error, ValueError))

    @classmethod
    def of_judging(cls, error: Exception) -> "Failure":
        """The failure behind what judging raised; judging the same again would raise the same.

        Logits that are not finite are refused like a failed pass at first, since another worker may compute
        them, but not again and again: usually it is the text that overflows the model's numbers.
        """
        if isinstance(error, LogitsError):
            told = f"the target model gives {error}; try another prompt, or dtype float32 at the worker"
            return cls(_one_line(error), max_failures=MAX_LOGITS_FAILURES, told=told)
        if isinstance(error, GrammarSourceError):  # whose text may quote what a person wrote
            return cls(GRAMMAR_DETAIL, is_permanent=True, told=GRAMMAR_DETAIL)
        if isinstance(error, UnusableGrammarError):
            return cls(_one_line(error), is_permanent=True, told=_one_line(error))
        is_permanent = not isinstance(error, MemoryError)
        return cls(_one_line(error), is_permanent, told="the worker fails to judge this draft")


@dataclass(frozen=True, slots=True)
class Unjudged:
    """A task whose pass gave logits that could not be judged, and the verdicts before that."""

    judged: Sequence[Judged]
    error: Exception


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


def _one_line(error: Exception) -> str:
    return str(error).partition("\n")[0] or type(error).__name__
