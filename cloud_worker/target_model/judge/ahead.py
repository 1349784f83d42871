"""Asks the grammars of a batch what its rows allow, in a thread, while the forward pass runs.

Law: it only fills in what judging would ask for. Masks are functions of the tokens, which are known before
the pass, and llguidance holds no lock of the interpreter while it finds them.
"""

import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from cloud_worker.scheduling.batch import Batch


class MaskingAhead:
    """One batch at a time."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "masks")  # begins with the first grammar

    def begin(self, batch: Batch) -> "Future[Sequence[float]] | None":
        """The seconds that each task's masks take; None if no task has a grammar."""
        if all(task.job.masks is None for task in batch.tasks):
            return None
        return self._thread.submit(_ask, batch)


def _ask(batch: Batch) -> list[float]:
    seconds: list[float] = []
    for task, chunk in zip(batch.tasks, batch.chunks, strict=True):
        began = time.perf_counter()
        if chunk is not None:
            task.judging.mask_ahead(chunk.num_rows)
        seconds.append(time.perf_counter() - began)
    return seconds
