"""Runs batches from the scheduler through the model and sends the answers.

Law: it decides nothing. The scheduler decides what runs next, and what follows a failed forward pass. Passes
run in a thread, one at a time, while the event loop goes on reading and answering.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol, Self

from cloud_worker.monitoring.error_log import count_error
from cloud_worker.monitoring.tally import ErrorKind, WorkerTally
from cloud_worker.passes.forward_pass import Pass
from cloud_worker.scheduling.batch import Batch, Outcome
from cloud_worker.scheduling.costs import CostKind, Costs, Work
from cloud_worker.scheduling.retries import PASS_ERRORS, Failure, Unjudged
from cloud_worker.scheduling.scheduler import Scheduler
from cloud_worker.scheduling.task import Answer, Task
from cloud_worker.session.job import Rows
from cloud_worker.session.judging import LogitsError
from common.process.log import about
from common.process.model_thread import ModelThread

QUIET_SECONDS = 0.01  # at most, for which the event loop reads nothing while a pass runs

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


class Reading(Protocol):
    """Where messages come from: the link."""

    def pause_reading(self, seconds: float) -> None:
        """Take in nothing until `resume_reading`, or for this long."""
        ...

    def resume_reading(self) -> None:
        """Take in what arrives again."""
        ...


@dataclass(frozen=True, slots=True)
class _Measured:
    """What a pass led to, per task, and what it took."""

    outcomes: Sequence[Outcome]
    work: Sequence[Work]
    forward_seconds: float


class Verifier:
    """Runs one batch after the other; enter it before `run`, which never returns by itself."""

    def __init__(
        self,
        model: Model,
        scheduler: Scheduler,
        tally: WorkerTally,
        chunk_tokens: int,
        costs: Costs | None = None,
    ) -> None:
        """`costs` are those that the scheduler goes by."""
        self._model = model
        self._costs = costs or Costs()
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

    async def run(self, send: Send, reading: Reading | None = None) -> None:
        """Verify waiting drafts until cancelled.

        Beside a light device, a busy event loop reads nothing from `reading` while a short pass runs: it
        would slow the pass down, and what it reads has to wait for the pass in any case.
        """
        while True:
            await self._work.wait()
            tasks, answers = self._plan()
            paused = reading if tasks and self._costs.crowds(time.monotonic()) else None
            if paused is not None:
                paused.pause_reading(QUIET_SECONDS)
            if tasks:
                answers += await self._verify(tasks)
            for key in self._scheduler.take_forgotten():
                self._model.forget(key)
            await send(answers)
            if paused is not None:
                paused.resume_reading()
                await asyncio.sleep(0)  # so that what has been read takes part in the next batch
            if not self._scheduler.num_waiting:
                self._work.clear()
                self._idle.set()

    def _plan(self) -> tuple[list[Task], list[Answer]]:
        """The next batch; the time to find it is charged by the drafts and refusals that came of it."""
        began, now = time.thread_time(), time.monotonic()
        tasks, answers = self._scheduler.next_batch(now)
        found = [task.key.device for task in tasks] + [answer.key.device for answer in answers]
        seconds = time.thread_time() - began
        for device in found:
            self._costs.charge(device, CostKind.PLANNING, seconds / len(found), now)
        return tasks, answers

    async def _verify(self, tasks: Sequence[Task]) -> list[Answer]:
        began = self._pass_began = time.monotonic()
        try:
            terms = list(zip(self._scheduler.rooms(tasks), self._scheduler.are_single(tasks), strict=True))
            measured = await self._thread.start(partial(self._judge, tasks, terms))
        except PASS_ERRORS as error:
            self._charge_failed(tasks, time.monotonic() - began)
            return self._fail(tasks, Failure.of(error))
        finally:
            self._pass_began = None
        now = time.monotonic()
        self._count_unjudged(tasks, measured.outcomes)
        self._costs.charge_pass(measured.work, measured.forward_seconds, now)
        answers = self._scheduler.complete(tasks, measured.outcomes, 1000 * (now - began))
        self._tally.count_pass(len(tasks), now - began)
        self._tally.count_corrections(tasks, answers)
        return answers

    def _judge(self, tasks: Sequence[Task], terms: Sequence[tuple[int | None, bool]]) -> _Measured:
        """Run one forward pass and judge its rows; None for a task that only advanced by a part."""
        batch = Batch.of(tasks, self._model.num_missing, self._chunk_tokens, [room for room, _ in terms])
        began = time.perf_counter()
        rows = self._model.logits(batch.passes)
        then = time.perf_counter()
        forward_seconds = then - began
        outcomes: list[Outcome] = []
        work: list[Work] = []
        sizes = zip(batch.tasks, batch.chunks, batch.num_positions, terms, strict=True)
        for outcome, (task, chunk, count, (_, is_single)) in zip(batch.judging(rows), sizes, strict=True):
            now = time.perf_counter()
            outcomes.append(outcome)
            num_rows = chunk.num_rows if chunk else 0
            work.append(Work(task.key.device, count, num_rows, now - then, is_single))
            then = now
        return _Measured(outcomes, work, forward_seconds)

    def _charge_failed(self, tasks: Sequence[Task], seconds: float) -> None:
        for task in tasks:
            self._costs.charge(task.key.device, CostKind.FORWARD, seconds / len(tasks), time.monotonic())

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
