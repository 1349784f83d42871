"""One batch: the passes that its tasks need now, and the verdicts from their logits. Pure.

Law: a worker and its simulation run the same batches; only how the model runs differs.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from cloud_worker.passes.forward_pass import Pass, in_chunks
from cloud_worker.scheduling.retries import Unjudged
from cloud_worker.scheduling.task import Task
from cloud_worker.session.job import Rows
from cloud_worker.session.judging import Judged

Outcome: TypeAlias = Sequence[Judged] | Unjudged | None  # None: a long prompt only advanced


@dataclass(frozen=True, slots=True)
class Batch:
    """Tasks, the whole pass that each one needs, and the chunk of it that runs now (None: none of it)."""

    tasks: Sequence[Task]
    whole: Sequence[Pass]
    chunks: Sequence[Pass | None]

    @classmethod
    def of(cls, tasks: Sequence[Task], num_missing: Callable[[Pass], int], chunk_tokens: int) -> "Batch":
        """`num_missing` is how many positions of a pass the model would have to compute; see `in_chunks`."""
        whole = [Pass(task.key, task.job.tokens, task.job.num_rows, owner=task.key.device) for task in tasks]
        return cls(tasks, whole, in_chunks(whole, [num_missing(one) for one in whole], chunk_tokens))

    @property
    def passes(self) -> list[Pass]:
        """What the model runs."""
        return [chunk for chunk in self.chunks if chunk is not None]

    def judged(self, rows: Sequence[Rows]) -> list[Outcome]:
        """What the rows of each of `passes` lead to, per task; whatever judging a task raises is its own."""
        remaining = iter(rows)
        return [
            _judge(task, next(remaining)) if chunk is not None else None
            for task, chunk in zip(self.tasks, self.chunks, strict=True)
        ]


def _judge(task: Task, rows: Rows) -> Outcome:
    try:
        task.judging.take(rows)
    except Exception as error:  # noqa: BLE001 - whatever it is, the other tasks have their verdicts
        return Unjudged(task.judging.judged, error)
    return task.judging.judged if task.judging.is_complete else None
