"""One batch: the passes that its tasks need now, and the verdicts from their logits. Pure.

Law: a worker and its simulation run the same batches; only how the model runs differs.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cloud_worker.passes.forward_pass import Pass, in_chunks
from cloud_worker.scheduling.task import Task
from cloud_worker.session.job import Rows
from cloud_worker.session.judging import Judged, judge


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

    def judged(self, rows: Sequence[Rows]) -> list[list[Judged] | None]:
        """Verdicts per task, from the rows of each of `passes`; None where a long prompt only advanced."""
        remaining = iter(rows)
        rows_of_task = [next(remaining) if chunk is not None else None for chunk in self.chunks]
        return [
            judge(task.job, logits) if logits is not None and chunk is one else None
            for task, logits, chunk, one in zip(
                self.tasks, rows_of_task, self.chunks, self.whole, strict=True
            )
        ]
