"""Which sessions there are, and whose work forms the next batch. Pure: no torch, no clock, no sockets.

Law 5: what devices send is bounded here: sessions overall and per device, the length of the queue, and the
memory of what waits; devices take turns. A device with too many sessions loses its own oldest one. Newcomers
are told `busy`, early instead of late, where the queue is full or long, or every seat was used just now: to
put out a session that goes on costs more than it gives. A draft that fails by itself again and again is
refused for good.
"""

import math
from collections import OrderedDict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from cloud_worker.scheduling.fair_queue import FairQueue, SessionKey
from cloud_worker.session.backlog import draft_bytes
from cloud_worker.session.job import Job
from cloud_worker.session.judging import Judged
from cloud_worker.session.session import CloudSession, Target
from common.protocol.messages import Close, Draft, Reason, Refusal, ToDevice, ToWorker

PASS_SMOOTHING = 1 / 8
MAX_FAILURES = 5  # passes for one session alone that fail in a row; the pauses between them double

__all__ = ["Answer", "Limits", "Scheduler", "SessionKey", "Task"]


class Answer(NamedTuple):
    """A message and the session it is for."""

    key: SessionKey
    message: ToDevice


@dataclass(frozen=True, slots=True)
class Limits:
    """What the worker takes on."""

    max_sessions: int = 256
    max_sessions_per_device: int = 16
    max_batch: int = 32
    max_queue: int = 256  # sessions with work waiting
    max_waiting_bytes_per_device: int = 32 << 20
    retry_after: float = 1.0
    seat_seconds: float = 0.0  # a session used within this time keeps its seat
    max_wait: float = math.inf  # seconds in the queue, as expected, beyond which newcomers are sent away


@dataclass(frozen=True, slots=True)
class Task:
    """A job and the session that it is for."""

    key: SessionKey
    session: CloudSession
    job: Job


class Scheduler:
    """The sessions of one worker, least recently used first, and the order in which they are served."""

    def __init__(self, target: Target, limits: Limits) -> None:
        self._target = target
        self._limits = limits
        self._sessions: OrderedDict[SessionKey, CloudSession] = OrderedDict()
        self._of_device: dict[str, dict[SessionKey, CloudSession]] = {}
        self._queue = FairQueue()
        self._unfinished: dict[SessionKey, Task] = {}  # passes that go on; their sessions are in the queue
        self._forgotten: list[SessionKey] = []
        self._used_at: dict[SessionKey, float] = {}
        self._pass_seconds = 0.0  # of one batch, smoothed

    @property
    def num_sessions(self) -> int:
        """Sessions held."""
        return len(self._sessions)

    @property
    def keys(self) -> Collection[SessionKey]:
        """Whose they are, least recently used first."""
        return self._sessions.keys()

    @property
    def num_waiting(self) -> int:
        """Sessions with work to do."""
        return len(self._queue)

    @property
    def expected_wait(self) -> float:
        """Seconds that a newcomer would wait for its turn: for the batches before it, as long as the last."""
        return self._pass_seconds * (len(self._queue) // self._limits.max_batch)

    def receive(self, key: SessionKey, message: ToWorker, now: float = 0.0) -> list[Answer]:
        """Take a message in at `now` (seconds). Returns what can be answered at once."""
        if isinstance(message, Close):
            self._forget(key)
            return []
        answers: list[Answer] = []
        session = self._sessions.get(key)
        refusal = self._refuse(key, message, now)
        if refusal is not None:
            return [Answer(key, refusal)]
        if session is None:
            answers += self._make_room(key.device)
            session = self._sessions[key] = CloudSession(self._target)
            self._of_device.setdefault(key.device, {})[key] = session
        self._sessions.move_to_end(key)
        self._used_at[key] = now
        answers += [Answer(key, answer) for answer in session.receive(message)]
        self._enqueue(key)
        return answers

    def next_batch(self) -> tuple[list[Task], list[Answer]]:
        """The tasks of the next forward pass, one a session, devices in turn; and ready answers."""
        tasks: list[Task] = []
        answers: list[Answer] = []
        while self._queue and len(tasks) < self._limits.max_batch:
            key = self._queue.take()
            task = self._unfinished.pop(key, None)
            if task is None:
                task, refusals = self._task(key)
                answers += refusals
            if task is not None:
                tasks.append(task)
        return tasks, answers

    def complete(
        self, tasks: Sequence[Task], judged: Sequence[Sequence[Judged] | None], compute_ms: float
    ) -> list[Answer]:
        """The corrections that follow from what `judge` made of each task's job.

        None instead of that means that the pass was a part of a long one: the task goes on next time.
        """
        self._pass_seconds += PASS_SMOOTHING * (compute_ms / 1000 - self._pass_seconds)
        answers: list[Answer] = []
        paused: list[Task] = []
        for task, verdicts in zip(tasks, judged, strict=True):
            if self._sessions.get(task.key) is not task.session:
                continue  # closed or evicted meanwhile
            if verdicts is None:
                paused.append(task)
                continue
            answers += [Answer(task.key, answer) for answer in task.session.complete(verdicts, compute_ms)]
            self._enqueue(task.key)
        for task in reversed(paused):  # the first stays the first
            self._unfinished[task.key] = task
            self._queue.add_first(task.key)
        return answers

    def abandon(self, task: Task, detail: str, *, is_its_fault: bool = False) -> list[Answer]:
        """The pass of this task alone failed: the edge may try again later, but not for ever.

        `is_its_fault` means that it can never succeed, so that there is no use in trying again.
        """
        session = task.session
        if self._sessions.get(task.key) is not session:
            return []
        session.num_failures += 1
        if is_its_fault or session.num_failures >= MAX_FAILURES:
            refusals = session.abandon(detail, reason=Reason.BAD_REQUEST)
        else:
            pause = self._limits.retry_after * 2 ** (session.num_failures - 1)
            refusals = session.abandon(detail, retry_after=pause)
        self._enqueue(task.key)
        return [Answer(task.key, refusal) for refusal in refusals]

    def farewell(self, detail: str) -> list[Answer]:
        """What to tell every session's edge when this worker leaves: ask another one."""
        leaving = Refusal(None, Reason.BUSY, self._target.worker, detail)
        return [Answer(key, leaving) for key in self._sessions]

    def take_forgotten(self) -> list[SessionKey]:
        """The sessions closed or evicted since the last call: their caches can go."""
        taken, self._forgotten = self._forgotten, []
        return taken

    def _task(self, key: SessionKey) -> tuple[Task | None, list[Answer]]:
        session = self._sessions[key]
        job, refusals = session.next_job()
        task = Task(key, session, job) if job is not None else None
        return task, [Answer(key, refusal) for refusal in refusals]

    def _refuse(self, key: SessionKey, draft: Draft, now: float) -> Refusal | None:
        """Whether this draft may not wait, and why."""
        is_new = key not in self._sessions
        if is_new and draft.opening is None:
            return Refusal(draft.n, Reason.NEED_CONTEXT, self._target.worker, have=0)
        if is_new and len(self._queue) >= self._limits.max_queue:
            return self.busy(draft, f"{len(self._queue)} sessions are waiting already")
        if is_new and self.expected_wait > self._limits.max_wait:
            return self.busy(draft, f"the queue is {self.expected_wait:.1f} s long")
        if is_new and self._is_crowded(key.device, now):
            return self.busy(draft, f"{len(self._sessions)} sessions are held, and all of them are in use")
        held = self._of_device.get(key.device, {}).values()
        num_bytes = sum(session.num_waiting_bytes for session in held) + draft_bytes(draft)
        if num_bytes > self._limits.max_waiting_bytes_per_device:
            return self.busy(draft, "too much from this device is waiting already")
        return None

    def _is_crowded(self, device: str, now: float) -> bool:
        """Whether a newcomer would put out another device's session that goes on."""
        held = len(self._of_device.get(device, {}))
        if len(self._sessions) < self._limits.max_sessions or held >= self._limits.max_sessions_per_device:
            return False
        return now - self._used_at[next(iter(self._sessions))] < self._limits.seat_seconds

    def busy(self, draft: Draft, detail: str) -> Refusal:
        """What to tell the edge when a draft cannot be taken now."""
        return Refusal(
            draft.n, Reason.BUSY, self._target.worker, detail, retry_after=self._limits.retry_after
        )

    def _make_room(self, device: str) -> list[Answer]:
        """Let the oldest session go where a new one exceeds a bound; what it still waited for is refused."""
        answers: list[Answer] = []
        if len(self._of_device.get(device, {})) >= self._limits.max_sessions_per_device:
            answers += self._evict(next(held for held in self._sessions if held.device == device))
        if len(self._sessions) >= self._limits.max_sessions:
            answers += self._evict(next(iter(self._sessions)))
        return answers

    def _evict(self, key: SessionKey) -> list[Answer]:
        detail = "this worker holds too many sessions"
        refusals = self._sessions[key].dismiss(detail, retry_after=self._limits.retry_after)
        self._forget(key)
        return [Answer(key, refusal) for refusal in refusals]

    def _forget(self, key: SessionKey) -> None:
        if self._sessions.pop(key, None) is None:
            return
        del self._used_at[key]
        self._queue.remove(key)
        self._unfinished.pop(key, None)
        self._forgotten.append(key)
        held = self._of_device[key.device]
        del held[key]
        if not held:
            del self._of_device[key.device]

    def _enqueue(self, key: SessionKey) -> None:
        if self._sessions[key].ready:
            self._queue.add(key)
