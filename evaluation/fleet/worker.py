"""A worker in virtual time: the queue and the passes of `cloud_worker.scheduler` and `cloud_worker.session`.

Law: the same drafts at the same times make the same batches as the real scheduler (tests/test_fleet.py holds
them together): one pass at a time, one job a session, longest waiting first, drafts that follow one another
in one job, `busy` when the queue is full, the least recently used session dropped when there are too many.
"""

from collections import OrderedDict, deque
from collections.abc import Generator
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Protocol, TypeAlias

import simpy

from cloud_worker.scheduler import Limits
from evaluation.fleet.inputs import PassTime

Process: TypeAlias = Generator[simpy.Event, Any]


class Verdict(Enum):
    """What a worker answers."""

    CORRECTION = "correction"
    NEED_CONTEXT = "need context"
    BUSY = "busy"


@dataclass(slots=True)
class Uplink:
    """A draft as a worker sees it: its number, the new tokens, whether one of them will be rejected.

    `bonus` is how many tokens the target should write.
    """

    n: int
    epoch: int
    num_tokens: int
    rejects: bool = False
    opens: bool = False
    bonus: int = 0


class Asker(Protocol):
    """The device's session, as the worker's key and the one to answer."""

    def answer(self, worker: "Worker", n: int, verdict: Verdict, compute: float) -> None:
        """Take an answer on its way."""
        ...


@dataclass(slots=True)
class _Held:
    """One session on the worker."""

    waiting: deque[Uplink] = field(default_factory=deque)
    running: list[Uplink] = field(default_factory=list)
    answered: set[int] = field(default_factory=set)
    epoch: int = 0
    stream: int = 0  # bonus tokens to come
    stream_n: int = 0

    @property
    def ready(self) -> bool:
        return not self.running and (bool(self.waiting) or self.stream > 0)


Job: TypeAlias = tuple[Asker, _Held, list[Uplink]]


class Worker:
    """`run` is its process; `receive` takes a message in."""

    def __init__(self, env: simpy.Environment, name: int, time: PassTime, limits: Limits) -> None:
        self.name = name
        self.retry_after = limits.retry_after
        self.busy_seconds = 0.0
        self.num_passes = self.num_jobs = self.num_tokens = self.num_evicted = 0
        self._env, self._time, self._limits = env, time, limits
        self._sessions: OrderedDict[Asker, _Held] = OrderedDict()
        self._queue: OrderedDict[Asker, None] = OrderedDict()
        self._work: simpy.Event | None = None

    def receive(self, asker: Asker, uplink: Uplink) -> None:
        """A draft has arrived."""
        held = self._sessions.get(asker)
        if held is None:
            if not uplink.opens:
                asker.answer(self, uplink.n, Verdict.NEED_CONTEXT, 0.0)
                return
            if len(self._queue) >= self._limits.max_queue:
                asker.answer(self, uplink.n, Verdict.BUSY, 0.0)
                return
            if len(self._sessions) >= self._limits.max_sessions:
                self._evict(next(iter(self._sessions)))
            held = self._sessions[asker] = _Held()
        self._sessions.move_to_end(asker)
        if uplink.n in held.answered:
            asker.answer(self, uplink.n, Verdict.CORRECTION, 0.0)
        elif all(uplink.n != other.n for other in (*held.waiting, *held.running)):
            held.waiting.append(uplink)
            self._enqueue(asker, held)

    def close(self, asker: Asker) -> None:
        """The session is over."""
        self._sessions.pop(asker, None)
        self._queue.pop(asker, None)

    def run(self) -> Process:
        """Pass after pass while there is work."""
        while True:
            if not self._queue:
                self._work = self._env.event()
                yield self._work
            jobs = self.next_batch()
            if not jobs:
                continue
            num_drafts = sum(max(1, len(uplinks)) for _, _, uplinks in jobs)
            num_tokens = sum(sum(one.num_tokens for one in uplinks) or 1 for _, _, uplinks in jobs)
            seconds = self._time.seconds(len(jobs), num_tokens, num_drafts)
            yield self._env.timeout(seconds)
            self.busy_seconds += seconds
            self.num_passes += 1
            self.num_jobs += len(jobs)
            self.num_tokens += num_tokens
            self.complete(jobs, seconds)

    def next_batch(self) -> list[Job]:
        """The jobs of the next pass."""
        jobs: list[Job] = []
        while self._queue and len(jobs) < self._limits.max_batch:
            asker, _ = self._queue.popitem(last=False)
            held = self._sessions[asker]
            held.running = _chain(held)
            if held.running or held.stream:
                jobs.append((asker, held, held.running))
        return jobs

    def complete(self, jobs: list[Job], seconds: float) -> None:
        """Answer the drafts of a pass."""
        for asker, held, uplinks in jobs:
            if self._sessions.get(asker) is not held:
                continue
            held.running = []
            if not uplinks:
                held.stream -= 1
                asker.answer(self, held.stream_n, Verdict.CORRECTION, seconds)
            for uplink in uplinks:
                held.answered.add(uplink.n)
                held.stream, held.stream_n = max(0, uplink.bonus - 1), uplink.n
                asker.answer(self, uplink.n, Verdict.CORRECTION, seconds)
                if uplink.rejects:
                    held.epoch += 1
                    break
            self._enqueue(asker, held)

    def _enqueue(self, asker: Asker, held: _Held) -> None:
        if held.ready:
            self._queue[asker] = None
            if self._work is not None and not self._work.triggered:
                self._work.succeed()

    def _evict(self, asker: Asker) -> None:
        held = self._sessions[asker]
        self.close(asker)
        self.num_evicted += 1
        for uplink in (*held.running, *held.waiting):
            asker.answer(self, uplink.n, Verdict.BUSY, 0.0)


def _chain(held: _Held) -> list[Uplink]:
    """All waiting drafts that follow one another; those of an older epoch are dropped."""
    chain: list[Uplink] = []
    while held.waiting:
        uplink = held.waiting[0]
        if chain and (uplink.opens or chain[-1].bonus or uplink.epoch != held.epoch):
            break
        held.waiting.popleft()
        if uplink.opens:
            held.epoch = uplink.epoch
        elif uplink.epoch < held.epoch or uplink.n in held.answered:
            continue
        held.stream = 0
        chain.append(uplink)
    return chain
