"""One batch: the passes that its tasks need now, and the verdicts from their logits. Pure.

Law: a worker and its simulation run the same batches; only how the model runs differs.
"""

from collections.abc import Callable, Iterator, Sequence
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
    """Tasks, the pass that each one still needs, the chunk of it that runs now (None: none), and its size."""

    tasks: Sequence[Task]
    whole: Sequence[Pass]
    chunks: Sequence[Pass | None]
    num_positions: Sequence[int]

    @classmethod
    def of(
        cls,
        tasks: Sequence[Task],
        num_missing: Callable[[Pass], int],
        chunk_tokens: int,
        rooms: Sequence[int | None] = (),
    ) -> "Batch":
        """`num_missing` is how many positions of a pass the model would have to compute; see `in_chunks`.

        `rooms` bounds the positions of each task in this pass (None: no bound). A task may then be judged
        over several passes, some of its rows in each.
        """
        whole = [
            Pass(task.key, task.job.tokens, task.job.num_rows - task.judging.num_rows, owner=task.key.device)
            for task in tasks
        ]
        missing = [num_missing(one) for one in whole]
        chunks = in_chunks(whole, missing, chunk_tokens)
        bounds = rooms or [None] * len(tasks)
        left = [_num_run(one, chunk, count) for one, chunk, count in zip(whole, chunks, missing, strict=True)]
        pieces = [
            chunk if chunk is None or room is None else chunk.piece(count, room)
            for chunk, count, room in zip(chunks, left, bounds, strict=True)
        ]
        counts = [
            0 if chunk is None or piece is None else count - (len(chunk.tokens) - len(piece.tokens))
            for chunk, piece, count in zip(chunks, pieces, left, strict=True)
        ]
        return cls(tasks, whole, pieces, counts)

    @property
    def passes(self) -> list[Pass]:
        """What the model runs."""
        return [chunk for chunk in self.chunks if chunk is not None]

    def judged(self, rows: Sequence[Rows]) -> list[Outcome]:
        """What the rows of each of `passes` lead to, per task; whatever judging a task raises is its own."""
        return list(self.judging(rows))

    def judging(self, rows: Sequence[Rows]) -> Iterator[Outcome]:
        """The same, one after the other."""
        remaining = iter(rows)
        for task, chunk in zip(self.tasks, self.chunks, strict=True):
            yield _judge(task, next(remaining)) if chunk is not None else None


def _num_run(whole: Pass, chunk: Pass | None, num_missing: int) -> int:
    return 0 if chunk is None else num_missing - (len(whole.tokens) - len(chunk.tokens))


def _judge(task: Task, rows: Rows) -> Outcome:
    try:
        task.judging.take(rows)
    except Exception as error:  # noqa: BLE001 - whatever it is, the other tasks have their verdicts
        return Unjudged(task.judging.judged, error)
    return task.judging.judged if task.judging.is_complete else None
