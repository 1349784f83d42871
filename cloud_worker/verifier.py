"""Runs batches from the scheduler through the engine and sends the answers.

Law: it decides nothing. The scheduler decides what runs next, and what follows a failed batch. As many
batches are in flight as the engine takes at once, while the event loop goes on reading and answering.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from cloud_worker.engines.engine import Engine, EngineLostError
from cloud_worker.monitoring.error_log import count_error
from cloud_worker.monitoring.tally import ErrorKind, WorkerTally
from cloud_worker.scheduling.batch import Outcome
from cloud_worker.scheduling.costs import CostKind, Costs, Work
from cloud_worker.scheduling.retries import PASS_ERRORS, Failure, Unjudged
from cloud_worker.scheduling.scheduler import Scheduler
from cloud_worker.scheduling.task import Answer, Task
from cloud_worker.session.judging import LogitsError
from common.process.log import about

QUIET_SECONDS = 0.01  # at most, for which the event loop reads nothing while a pass runs

Send = Callable[[Sequence[Answer]], Awaitable[None]]

MAX_NAMED = 8  # sessions named in the log record of a failed pass


class Reading(Protocol):
    """Where messages come from: the link."""

    def pause_reading(self, seconds: float) -> None:
        """Take in nothing until `resume_reading`, or for this long."""
        ...

    def resume_reading(self) -> None:
        """Take in what arrives again."""
        ...


class Verifier:
    """Keeps the engine at work; enter the engine before `run`, which never returns by itself."""

    def __init__(
        self, engine: Engine, scheduler: Scheduler, tally: WorkerTally, costs: Costs | None = None
    ) -> None:
        """`costs` are those that the scheduler goes by."""
        self._engine = engine
        self._costs = costs or Costs()
        self._scheduler = scheduler
        self._tally = tally
        self._begun: dict[object, float] = {}  # when each batch in flight began, oldest first
        self._num_busy = 0  # loops with a batch or with answers to send
        self._work = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def pass_seconds(self) -> float:
        """How long the oldest batch in flight has taken so far; 0 without one."""
        return time.monotonic() - next(iter(self._begun.values())) if self._begun else 0.0

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
        loops = [asyncio.create_task(self._serve(send, reading)) for _ in range(self._engine.batches_at_once)]
        try:
            await asyncio.gather(*loops)
        finally:
            for loop in loops:
                loop.cancel()
            await asyncio.gather(*loops, return_exceptions=True)

    async def _serve(self, send: Send, reading: Reading | None) -> None:
        """Run one batch after the other."""
        while True:
            await self._work.wait()
            self._num_busy += 1
            tasks, answers = self._plan()
            paused = reading if tasks and self._costs.crowds(time.monotonic()) else None
            if paused is not None:
                paused.pause_reading(QUIET_SECONDS)
            if not self._scheduler.num_waiting:
                self._work.clear()
            if tasks:
                answers += await self._verify(tasks)
            for key in self._scheduler.take_forgotten():
                self._engine.forget(key)
            await send(answers)
            if paused is not None:
                paused.resume_reading()
                await asyncio.sleep(0)  # so that what has been read takes part in the next batch
            self._num_busy -= 1
            if self._scheduler.num_waiting:
                self._work.set()
            elif self._num_busy == 0:
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
        rooms, are_single = self._scheduler.rooms(tasks), self._scheduler.are_single(tasks)
        batch = object()
        began = self._begun[batch] = time.monotonic()
        try:
            verified = await self._engine.verify(tasks, rooms)
        except EngineLostError as error:
            count_error(self._tally, ErrorKind.ENGINE, str(error), "the engine is lost")
            return self._scheduler.release(tasks, "the worker cannot reach its target model")
        except PASS_ERRORS as error:
            self._charge_failed(tasks, time.monotonic() - began)
            return self._fail(tasks, Failure.of(error))
        finally:
            del self._begun[batch]
        now = time.monotonic()
        outcomes = [part.outcome for part in verified.parts]
        self._count_unjudged(tasks, outcomes)
        work = [
            Work(task.key.device, part.num_positions, part.num_rows, part.judging_seconds, is_single)
            for task, part, is_single in zip(tasks, verified.parts, are_single, strict=True)
        ]
        self._costs.charge_pass(work, verified.forward_seconds, now)
        answers = self._scheduler.complete(tasks, outcomes, 1000 * (now - began))
        self._tally.count_pass(len(tasks), now - began)
        self._tally.count_corrections(tasks, answers)
        return answers

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
