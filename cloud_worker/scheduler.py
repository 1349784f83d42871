"""Which sessions there are, and whose work forms the next batch. Pure: no torch, no clock, no sockets.

Law 5: what devices send is bounded here: sessions overall and per device, and the length of the queue. A
device with too many sessions loses its own oldest one; a full queue says `busy`, early instead of late.
"""

from collections import Counter, OrderedDict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from cloud_worker.session import CloudSession, Job, Rows, Target
from common.messages import Close, Draft, Reason, Refusal, ToDevice, ToWorker


class SessionKey(NamedTuple):
    """Whose session it is; the device's name comes from the topic, which the broker guards."""

    device: str
    session: str


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
    retry_after: float = 1.0


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
        self._queue: OrderedDict[SessionKey, None] = OrderedDict()
        self._num_by_device: Counter[str] = Counter()
        self._forgotten: list[SessionKey] = []
        self._unfinished: list[Task] = []

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
        return len(self._queue) + len(self._unfinished)

    def receive(self, key: SessionKey, message: ToWorker) -> list[Answer]:
        """Take a message in. Returns what can be answered at once."""
        if isinstance(message, Close):
            self._forget(key)
            return []
        answers: list[Answer] = []
        session = self._sessions.get(key)
        if session is None:
            refusal = self._refuse_new(message)
            if refusal is not None:
                return [Answer(key, refusal)]
            answers += self._make_room(key.device)
            session = self._sessions[key] = CloudSession(self._target)
            self._num_by_device[key.device] += 1
        self._sessions.move_to_end(key)
        answers += [Answer(key, answer) for answer in session.receive(message)]
        self._enqueue(key)
        return answers

    def next_batch(self) -> tuple[list[Task], list[Answer]]:
        """The tasks of the next forward pass, one a session, longest waiting first; and ready answers."""
        tasks, self._unfinished = self._unfinished, []
        answers: list[Answer] = []
        while self._queue and len(tasks) < self._limits.max_batch:
            key, _ = self._queue.popitem(last=False)
            session = self._sessions[key]
            job, refusals = session.next_job()
            answers += [Answer(key, refusal) for refusal in refusals]
            if job is not None:
                tasks.append(Task(key, session, job))
        return tasks, answers

    def complete(self, tasks: Sequence[Task], rows: Sequence[Rows | None], compute_ms: float) -> list[Answer]:
        """The corrections that follow from the logits (an array [num_rows, width] a task).

        None instead of an array means that the pass was a part of a long one: the task goes on next time.
        """
        answers: list[Answer] = []
        for task, logits in zip(tasks, rows, strict=True):
            if self._sessions.get(task.key) is not task.session:
                continue  # closed or evicted meanwhile
            if logits is None:
                self._unfinished.append(task)
                continue
            answers += [Answer(task.key, answer) for answer in task.session.complete(logits, compute_ms)]
            self._enqueue(task.key)
        return answers

    def abandon(self, tasks: Sequence[Task], detail: str) -> list[Answer]:
        """The pass could not be run: say so, and let the edges try again."""
        answers: list[Answer] = []
        for task in tasks:
            if self._sessions.get(task.key) is task.session:
                refusals = task.session.abandon(detail, retry_after=self._limits.retry_after)
                answers += [Answer(task.key, refusal) for refusal in refusals]
                self._enqueue(task.key)
        return answers

    def farewell(self, detail: str) -> list[Answer]:
        """What to tell every session's edge when this worker leaves: ask another one."""
        leaving = Refusal(None, Reason.BUSY, self._target.worker, detail)
        return [Answer(key, leaving) for key in self._sessions]

    def take_forgotten(self) -> list[SessionKey]:
        """The sessions closed or evicted since the last call: their caches can go."""
        taken, self._forgotten = self._forgotten, []
        return taken

    def _refuse_new(self, draft: Draft) -> Refusal | None:
        """Whether a session may not begin with this draft, and why."""
        if draft.opening is None:
            return Refusal(draft.n, Reason.NEED_CONTEXT, self._target.worker, have=0)
        if len(self._queue) < self._limits.max_queue:
            return None
        return Refusal(
            draft.n,
            Reason.BUSY,
            self._target.worker,
            f"{len(self._queue)} sessions are waiting already",
            retry_after=self._limits.retry_after,
        )

    def _make_room(self, device: str) -> list[Answer]:
        """Let the oldest session go where a new one exceeds a bound; what it still waited for is refused."""
        answers: list[Answer] = []
        if self._num_by_device[device] >= self._limits.max_sessions_per_device:
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
        self._queue.pop(key, None)
        self._forgotten.append(key)
        self._num_by_device[key.device] -= 1
        if not self._num_by_device[key.device]:
            del self._num_by_device[key.device]

    def _enqueue(self, key: SessionKey) -> None:
        if self._sessions[key].ready:
            self._queue[key] = None
