"""Runs batches from the scheduler through the model and sends the answers.

Law: it decides nothing. The scheduler decides what runs next, and what follows a failed forward pass. Passes
run in a thread, one at a time, while the event loop goes on reading and answering.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Hashable, Sequence
from functools import partial
from typing import Protocol, Self

from cloud_worker.monitoring.error_log import count_error
from cloud_worker.monitoring.tally import ErrorKind, WorkerTally
from cloud_worker.passes.forward_pass import Pass
from cloud_worker.scheduling.batch import Batch, Outcome
from cloud_worker.scheduling.retries import PASS_ERRORS, Failure, Unjudged
from cloud_worker.scheduling.scheduler import Scheduler
from cloud_worker.scheduling.task import Answer, Task
from cloud_worker.session.job import Rows
from cloud_worker.session.judging import LogitsError
from common.process.log import about
from common.process.model_thread import ModelThread

Send = Callable[[Sequence[Answer]], Awaitable[None]]

MAX_NAMED = 8  # sessions named in the log record of a failed pass


class Model(Protocol):
    """What the verifier needs of a `TargetModel`."""

    def num_missing(self, one: Pass) -> int:
        """How many positions a pass would compute now."""
        ...

    def logits(self, passes: Sequence[Pass]) -> Sequence[Rows]:
        """One array [num_rows, vocab_size] per pass, in order."""
        ...

    def forget(self, session: Hashable) -> None:
        """Drop a session's cache."""
        ...


class Verifier:
    """Runs one batch after the other; enter it before `run`, which never returns by itself."""

    def __init__(self, model: Model, scheduler: Scheduler, tally: WorkerTally, chunk_tokens: int) -> None:
        self._model = model
        self._scheduler = scheduler
        self._tally = tally
        self._chunk_tokens = chunk_tokens
        self._thread = ModelThread()
        self._pass_began: float | None = None
        self._work = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    def __enter__(self) -> Self:
        self._thread.__enter__()
        return self

    def __exit__(self, *exception: object) -> None:
        self._thread.__exit__(*exception)

    @property
    def pass_seconds(self) -> float:
        """How long the forward pass in progress has taken so far; 0 without one."""
        return 0.0 if self._pass_began is None else time.monotonic() - self._pass_began

    def wake(self) -> None:
        """Look for work; call this after the scheduler has received a message."""
        if self._scheduler.num_waiting:
            self._idle.clear()
            self._work.set()

    async def idle(self) -> None:
        """Return once nothing waits and every answer has been sent."""
        await self._idle.wait()

    async def run(self, send: Send) -> None:
        """Verify waiting drafts until cancelled."""
        while True:
            await self._work.wait()
            tasks, answers = self._scheduler.next_batch()
            if tasks:
                answers += await self._verify(tasks)
            for key in self._scheduler.take_forgotten():
                self._model.forget(key)
            await send(answers)
            if not self._scheduler.num_waiting:
                self._work.clear()
                self._idle.set()

    async def _verify(self, tasks: Sequence[Task]) -> list[Answer]:
        began = self._pass_began = time.monotonic()
        try:
            judged = await self._thread.start(partial(self._judge, tasks))
        except PASS_ERRORS as error:
            return self._fail(tasks, Failure.of(error))
        finally:
            self._pass_began = None
        seconds = time.monotonic() - began
        self._count_unjudged(tasks, judged)
        answers = self._scheduler.complete(tasks, judged, 1000 * seconds)
        self._tally.count_pass(len(tasks), seconds)
        self._tally.count_corrections(tasks, answers)
        return answers

    def _judge(self, tasks: Sequence[Task]) -> list[Outcome]:
        """Run one forward pass and judge its rows; None for a long prompt that only advanced by a chunk."""
        batch = Batch.of(tasks, self._model.num_missing, self._chunk_tokens)
        return batch.judged(self._model.logits(batch.passes))

    def _fail(self, tasks: Sequence[Task], failure: Failure) -> list[Answer]:
        what = f"a forward pass over {len(tasks)} sessions failed"
        with about(session=", ".join(task.key.session for task in tasks[:MAX_NAMED])):
            count_error(self._tally, ErrorKind.PASS, failure.detail, what)
        return self._scheduler.fail(tasks, failure)

    def _count_unjudged(self, tasks: Sequence[Task], judged: Sequence[Outcome]) -> None:
        for task, outcome in zip(tasks, judged, strict=True):
            if isinstance(outcome, Unjudged):
                is_bad_row = isinstance(outcome.error, LogitsError)
                kind = ErrorKind.LOGITS if is_bad_row else ErrorKind.JUDGING
                detail = Failure.of_judging(outcome.error).detail
                with about(device=task.key.device, session=task.key.session):
                    count_error(self._tally, kind, detail, "could not judge a draft")
