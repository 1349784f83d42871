"""One batch: which passes its tasks need now, and what the logits say of them. Pure.

Law: the worker and its simulation run the same batches; only who runs the model differs.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cloud_worker.passes.forward_pass import Pass, in_pieces
from cloud_worker.scheduling.task import Task
from cloud_worker.session.job import Rows
from cloud_worker.session.judging import Judged, judge


@dataclass(frozen=True, slots=True)
class Batch:
    """Tasks with the pass that each wants, and the piece of it that is run now (None: nothing of it)."""

    tasks: Sequence[Task]
    wanted: Sequence[Pass]
    pieces: Sequence[Pass | None]

    @classmethod
    def of(cls, tasks: Sequence[Task], num_missing: Callable[[Pass], int], chunk_tokens: int) -> "Batch":
        """`num_missing` says how many positions of a pass the model would compute; see `in_pieces`."""
        wanted = [Pass(task.key, task.job.tokens, task.job.num_rows, owner=task.key.device) for task in tasks]
        return cls(tasks, wanted, in_pieces(wanted, [num_missing(one) for one in wanted], chunk_tokens))

    @property
    def passes(self) -> list[Pass]:
        """What the model runs."""
        return [piece for piece in self.pieces if piece is not None]

    def judged(self, rows: Sequence[Rows]) -> list[list[Judged] | None]:
        """Verdicts a task from the rows of each of `passes`; None where a long prompt only advanced."""
        made = iter(rows)
        found = [next(made) if piece is not None else None for piece in self.pieces]
        return [
            judge(task.job, logits) if logits is not None and piece is one else None
            for task, logits, piece, one in zip(self.tasks, found, self.pieces, self.wanted, strict=True)
        ]
