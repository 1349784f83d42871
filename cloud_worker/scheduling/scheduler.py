"""The sessions of one worker, and whose work forms the next batch. Pure: no torch, no clock, no sockets.

Law 5: everything that devices send is bounded here: the number of sessions, overall and per device, the
length of the queue, and the memory of waiting drafts. Devices take turns. A device with too many sessions
loses its own oldest one. New sessions are refused with `busy` early rather than late: when the queue is full
or slow, or when every session held was used recently, since evicting an active session costs more than it
gains. But seats and places in the queue belong to devices: one that holds fewer gets them from the one that
holds most. A draft that keeps failing on its own is refused for good.
"""

from collections import Counter, OrderedDict
from collections.abc import Collection, Sequence

from cloud_worker.scheduling.batch import Outcome
from cloud_worker.scheduling.costs import Costs
from cloud_worker.scheduling.fair_queue import FairQueue, SessionKey
from cloud_worker.scheduling.limits import Limits
from cloud_worker.scheduling.retries import MAX_FAILURES, Failure, Retries, Unjudged
from cloud_worker.scheduling.task import Answer, Task
from cloud_worker.scheduling.turns import Turns
from cloud_worker.session.backlog import draft_bytes
from cloud_worker.session.judging import Judged
from cloud_worker.session.session import CloudSession, Target
from common.protocol.messages import Close, Draft, Reason, Refusal, ToWorker

PASS_SMOOTHING = 1 / 8
MAX_ANSWERS = 16  # that need no pass, in one batch: those who wait for the pass wait for these too

__all__ = ["MAX_FAILURES", "Answer", "Limits", "Scheduler", "SessionKey", "Task"]


class Scheduler:
    """The sessions of one worker, least recently used first, and the order in which they are served."""

    def __init__(self, target: Target, limits: Limits, costs: Costs | None = None) -> None:
        """`costs` is where the caller charges what devices cost; without it, they are served in turn."""
        self._target = target
        self._limits = limits
        self._costs = costs or Costs()
        self._rooms: dict[SessionKey, int | None] = {}
        self._sessions: OrderedDict[SessionKey, CloudSession] = OrderedDict()
        self._of_device: dict[str, dict[SessionKey, CloudSession]] = {}
        self._queue = FairQueue()
        self._retries = Retries()
        self._unfinished: dict[SessionKey, Task] = {}  # long passes to continue; their sessions are queued
        self._forgotten: list[SessionKey] = []
        self._used_at: dict[SessionKey, float] = {}
        self._pass_seconds = 0.0  # duration of one pass, smoothed

    @property
    def num_sessions(self) -> int:
        """Sessions held."""
        return len(self._sessions)

    @property
    def keys(self) -> Collection[SessionKey]:
        """The keys of the sessions held, least recently used first."""
        return self._sessions.keys()

    @property
    def num_waiting(self) -> int:
        """Sessions with work to do."""
        return len(self._queue) + len(self._retries)

    @property
    def expected_wait(self) -> float:
        """Seconds until all that wait have been served, if the batches take as long as usual."""
        return self._pass_seconds * (len(self._queue) // self._num_at_once)

    def waits(self, device: str) -> bool:
        """Whether a session of a device waits for a pass."""
        return self._queue.num_waiting(device) > 0

    def wait_of(self, device: str) -> float:
        """Seconds until a new session of a device would be served, by the turns that devices take."""
        return self._pass_seconds * (self._queue.num_before(device) // self._num_at_once)

    @property
    def _num_at_once(self) -> int:
        """How many sessions are served at the same time."""
        return self._limits.max_batch * self._limits.batches_at_once

    def receive(
        self, key: SessionKey, message: ToWorker, now: float = 0.0, *, is_too_fast: bool = False
    ) -> list[Answer]:
        """Take in a message at `now` (seconds); returns the answers that need no forward pass.

        `is_too_fast` means that the device exceeds its rate: its drafts are refused.
        """
        if isinstance(message, Close):
            self._forget(key)
            return []
        refusal = self._refuse(key, message, now, is_too_fast=is_too_fast)
        if refusal is not None:
            return [Answer(key, refusal)]
        answers: list[Answer] = []
        session = self._sessions.get(key)
        if session is None:
            answers += self._make_room(key.device, now)
            session = self._sessions[key] = CloudSession(self._target, key.device)
            self._of_device.setdefault(key.device, {})[key] = session
        self._sessions.move_to_end(key)
        self._used_at[key] = now
        answers += [Answer(key, answer) for answer in session.receive(message)]
        self._enqueue(key)
        return answers

    def next_batch(self, now: float = 0.0) -> tuple[list[Task], list[Answer]]:
        """The tasks of the next forward pass, one per session, devices in turn; and answers ready now."""
        self._rooms = {}
        if self._retries:
            return [task for task in self._retries.take() if self._is_wanted(task)], []
        tasks: list[Task] = []
        answers: list[Answer] = []
        turns = Turns(self._queue, self._costs, now)
        for key in turns:
            task = self._unfinished.pop(key, None)
            if task is None:
                task, refusals = self._task(key)
                answers += refusals
            if task is not None:
                room = turns.room(task)
                if room == 0:
                    self._pause(task)
                    break
                self._rooms[key] = room
                tasks.append(task)
            if len(tasks) >= self._limits.max_batch or len(answers) >= MAX_ANSWERS:
                break
        return tasks, answers

    def rooms(self, tasks: Sequence[Task]) -> list[int | None]:
        """How many positions of each task of the last batch its pass may compute; None: all."""
        return [self._rooms.get(task.key) for task in tasks]

    def are_single(self, tasks: Sequence[Task]) -> list[bool]:
        """Whether the device of each task of the last batch has no other session at work or waiting."""
        counts = Counter(task.key.device for task in tasks)
        return [counts[task.key.device] + self._queue.num_waiting(task.key.device) == 1 for task in tasks]

    def complete(self, tasks: Sequence[Task], judged: Sequence[Outcome], compute_ms: float) -> list[Answer]:
        """The answers that follow from what `judge` returned for each task's job.

        None in place of that means that the pass ran only a part of a long prompt: the task continues in the
        next batch. A task that could not be judged is refused, and its cache is dropped.
        """
        self._pass_seconds += PASS_SMOOTHING * (compute_ms / 1000 - self._pass_seconds)
        answers: list[Answer] = []
        paused: list[Task] = []
        for task, verdicts in zip(tasks, judged, strict=True):
            if not self._is_wanted(task):
                continue
            if verdicts is None:
                paused.append(task)
                continue
            if isinstance(verdicts, Unjudged):
                answers += self._unjudged(task, verdicts, compute_ms)
                continue
            answers += [Answer(task.key, answer) for answer in task.session.complete(verdicts, compute_ms)]
            self._enqueue(task.key)
        for task in reversed(paused):  # so that the first one stays first
            self._pause(task)
        return answers

    def fail(self, tasks: Sequence[Task], failure: Failure) -> list[Answer]:
        """The forward pass over `tasks` failed: parts of it run again, or its only task is refused."""
        abandoned = self._retries.add(tasks, failure)
        if abandoned is None:
            return []
        return self.abandon(abandoned.task, abandoned.detail, is_its_fault=abandoned.is_its_fault)

    def abandon(self, task: Task, detail: str, *, is_its_fault: bool = False) -> list[Answer]:
        """Refuse a task whose pass failed with no other task in it; the edge may retry a few times.

        `is_its_fault` means that the draft can never be verified, so retrying is pointless.
        """
        if not self._is_wanted(task):
            return []
        return self._abandon(task, Failure(detail, is_its_fault, told=detail))

    def release(self, tasks: Sequence[Task], detail: str) -> list[Answer]:
        """Refuse tasks that could not be run through no fault of theirs: their edges ask another worker.

        What had been judged in earlier passes is corrected.
        """
        answers: list[Answer] = []
        for task in filter(self._is_wanted, tasks):
            refused = task.session.abandon(
                detail, retry_after=self._limits.retry_after, judged=task.judging.judged
            )
            answers += [Answer(task.key, answer) for answer in refused]
            self._enqueue(task.key)
        return answers

    def _unjudged(self, task: Task, unjudged: Unjudged, compute_ms: float) -> list[Answer]:
        self._forgotten.append(task.key)
        return self._abandon(task, Failure.of_judging(unjudged.error), unjudged.judged, compute_ms)

    def _abandon(
        self, task: Task, failure: Failure, judged: Sequence[Judged] = (), compute_ms: float = 0.0
    ) -> list[Answer]:
        session = task.session
        session.num_failures += 1
        if failure.is_permanent or session.num_failures >= failure.max_failures:
            reason, pause = Reason.BAD_REQUEST, 0.0
        else:
            reason, pause = Reason.BUSY, self._limits.retry_after * 2 ** (session.num_failures - 1)
        answers = session.abandon(
            failure.told, reason=reason, retry_after=pause, judged=judged, compute_ms=compute_ms
        )
        self._enqueue(task.key)
        return [Answer(task.key, answer) for answer in answers]

    def farewell(self, detail: str) -> list[Answer]:
        """What to send for every session when this worker leaves: the edge should ask another worker."""
        leaving = Refusal(None, Reason.BUSY, self._target.worker, detail)
        return [Answer(key, leaving) for key in self._sessions]

    def take_forgotten(self) -> list[SessionKey]:
        """The sessions closed or evicted since the last call, whose caches can be dropped."""
        taken, self._forgotten = self._forgotten, []
        return taken

    def _task(self, key: SessionKey) -> tuple[Task | None, list[Answer]]:
        session = self._sessions[key]
        job, refusals = session.next_job()
        task = Task(key, session, job) if job is not None else None
        self._enqueue(key)  # unless it has a job now, or nothing left
        return task, [Answer(key, refusal) for refusal in refusals]

    def _is_wanted(self, task: Task) -> bool:
        """False when the session was closed, evicted or opened again in the meantime."""
        return self._sessions.get(task.key) is task.session

    def _refuse(self, key: SessionKey, draft: Draft, now: float, *, is_too_fast: bool) -> Refusal | None:
        """Why this draft may not wait; None when it may."""
        if is_too_fast:
            return self._busy(draft, "this device sends too many messages")
        is_new = key not in self._sessions
        if is_new and draft.opening is None:
            return Refusal(draft.n, Reason.NEED_CONTEXT, self._target.worker, have=0)
        if is_new and self._is_queue_full(key.device):
            return self._busy(draft, f"{len(self._queue)} sessions are waiting already")
        if is_new and (wait := self.wait_of(key.device)) > self._limits.max_wait:
            return self._busy(draft, f"the queue is {wait:.1f} s long")
        if is_new and self._is_crowded(key.device, now):
            return self._busy(draft, f"{len(self._sessions)} sessions are held, and all of them are in use")
        held = self._of_device.get(key.device, {}).values()
        num_bytes = sum(session.num_waiting_bytes for session in held) + draft_bytes(draft)
        if num_bytes > self._limits.max_waiting_bytes_per_device:
            return self._busy(draft, "too much from this device is waiting already")
        return None

    def _is_queue_full(self, device: str) -> bool:
        """Whether a new session may not wait: what others wait with too many does not count against it."""
        is_full = len(self._queue) >= self._limits.max_queue
        return is_full and not has_too_many(self._queue.most_waiting(), self._queue.num_waiting(device))

    def _is_crowded(self, device: str, now: float) -> bool:
        """Whether a new session would evict an active one of a device that has a right to it."""
        held = self._num_held(device)
        if len(self._sessions) < self._limits.max_sessions or held >= self._limits.max_sessions_per_device:
            return False
        return self._is_active(now) and not has_too_many(max(map(len, self._of_device.values())), held)

    def _is_active(self, now: float) -> bool:
        """Whether even the session idle longest was used recently."""
        return now - self._used_at[next(iter(self._sessions))] < self._limits.seat_seconds

    def _num_held(self, device: str) -> int:
        return len(self._of_device.get(device, {}))

    def _busy(self, draft: Draft, detail: str) -> Refusal:
        return Refusal(
            draft.n, Reason.BUSY, self._target.worker, detail, retry_after=self._limits.retry_after
        )

    def _make_room(self, device: str, now: float) -> list[Answer]:
        """Evict the oldest session where a new one would exceed a bound; its waiting drafts are refused.

        While all sessions are in use, it is the oldest one of the device that holds most.
        """
        answers: list[Answer] = []
        if self._num_held(device) >= self._limits.max_sessions_per_device:
            answers += self._evict(next(held for held in self._sessions if held.device == device))
        if len(self._sessions) >= self._limits.max_sessions:
            most = max(map(len, self._of_device.values()))
            is_active = self._is_active(now)
            answers += self._evict(
                next(held for held in self._sessions if not is_active or self._num_held(held.device) == most)
            )
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

    def _pause(self, task: Task) -> None:
        """The task goes on in a later pass, before the other sessions of its device."""
        self._unfinished[task.key] = task
        self._queue.add_first(task.key)

    def _enqueue(self, key: SessionKey) -> None:
        if self._sessions[key].ready:
            self._queue.add(key)


def has_too_many(most: int, own: int) -> bool:
    """Whether a device with `most` must give one up to a device with `own`: it then still has as many."""
    return most - 1 >= own + 1
