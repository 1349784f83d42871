"""A worker in virtual time: the worker's scheduler, session and loop, with its real queue.

Law: the same drafts at the same times make the same batches as the real scheduler
(tests/evaluation/test_fleet.py holds them together): one pass at a time, one job a session, in the order
of `cloud_worker.scheduling.fair_queue`, drafts that follow one another in one job, `busy` when the queue is
full, the least recently used session dropped when there are too many. Drafts are read while a pass runs,
answers leave between two passes.
"""

import random
from collections import OrderedDict, deque
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Protocol, TypeAlias

import simpy

from cloud_worker.scheduling.fair_queue import FairQueue, SessionKey
from cloud_worker.scheduling.scheduler import Limits
from evaluation.fleet.inputs import LoopTime, PassTime

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
    """The device's session: its key, and the one to answer."""

    @property
    def key(self) -> SessionKey:
        """By which the worker knows it."""
        ...

    def answer(self, worker: "Worker", n: int, verdict: Verdict, compute: float) -> None:
        """Take an answer on its way."""
        ...


@dataclass(slots=True)
class _Held:
    """One session on the worker."""

    asker: Asker
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


@dataclass(frozen=True, slots=True)
class WorkerTime:
    """How long a worker takes: the passes of its model, and its loop around them."""

    passes: PassTime
    loop: LoopTime

    def cycle(self, num_sessions: int, num_tokens: int, num_drafts: int) -> float:
        """Seconds from one pass to the next when work never ends and as much is read as answered."""
        reading = self.loop.reading * num_drafts + self.loop.reading_a_pass
        answering = self.loop.answering * num_drafts + self.loop.answering_a_pass
        seconds = self.passes.seconds(num_sessions, num_tokens)
        return answering + (max(seconds, reading) if self.passes.leaves_core else seconds + reading)


class Worker:
    """`run` is its process; `receive` takes a message in. `busy_seconds` are those of passes and answers."""

    def __init__(
        self, env: simpy.Environment, name: int, time: WorkerTime, limits: Limits, rng: random.Random
    ) -> None:
        self.name = name
        self.retry_after = limits.retry_after
        self.busy_seconds = 0.0
        self.num_passes = self.num_jobs = self.num_tokens = self.num_evicted = 0
        self._env, self._time, self._limits, self._rng = env, time, limits, rng
        self._sessions: OrderedDict[SessionKey, _Held] = OrderedDict()
        self._queue = FairQueue()
        self._work: simpy.Event | None = None
        self._loop_free_at = 0.0
        self._taken = 0.0  # seconds that reading takes from the passes, where both share a core
        self._is_idle = True

    def receive(self, asker: Asker, uplink: Uplink) -> None:
        """A draft has arrived."""
        self._read(lambda: self._receive(asker, uplink))

    def close(self, asker: Asker) -> None:
        """The message has arrived that the session is over."""
        self._read(lambda: self._forget(asker.key))

    def run(self) -> Process:
        """Pass after pass while there is work."""
        while True:
            if not self._queue:
                self._work = self._env.event()
                self._is_idle = True
                yield self._work
                self._is_idle = False
            jobs = self.next_batch()
            if not jobs:
                continue
            began = self._env.now
            yield from self._pass(jobs)
            yield from self._answer(jobs, self._env.now - began)
            self.busy_seconds += self._env.now - began

    def next_batch(self) -> list[Job]:
        """The jobs of the next pass."""
        jobs: list[Job] = []
        while self._queue and len(jobs) < self._limits.max_batch:
            held = self._sessions[self._queue.take()]
            held.running = _chain(held)
            if held.running or held.stream:
                jobs.append((held.asker, held, held.running))
        return jobs

    def complete(self, jobs: list[Job], seconds: float) -> None:
        """Answer the drafts of a pass."""
        for asker, held, uplinks in jobs:
            if self._sessions.get(asker.key) is not held:
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
            self._enqueue(held)

    # -- time -----------------------------------------------------------------------------------------

    def _read(self, take: Callable[[], None]) -> None:
        """Call `take` when the loop has read the message: it reads one after the other."""
        seconds = self._time.loop.reading
        if not seconds:
            take()
            return
        if not self._time.passes.leaves_core:
            if self._is_idle:
                self.busy_seconds += seconds
            else:
                self._taken += seconds
        self._loop_free_at = max(self._env.now, self._loop_free_at) + seconds
        event = self._env.timeout(self._loop_free_at - self._env.now)
        assert event.callbacks is not None

        def happened(_: simpy.Event) -> None:
            take()

        event.callbacks.append(happened)

    def _pass(self, jobs: list[Job]) -> Process:
        num_tokens = sum(sum(one.num_tokens for one in uplinks) or 1 for _, _, uplinks in jobs)
        self.num_passes += 1
        self.num_jobs += len(jobs)
        self.num_tokens += num_tokens
        left = self._time.passes.draw(self._rng, len(jobs), num_tokens)
        if not self._time.passes.leaves_core:
            left += self._time.loop.reading_a_pass
        while left > 0:
            yield self._env.timeout(left)
            left, self._taken = self._taken, 0.0

    def _answer(self, jobs: list[Job], compute: float) -> Process:
        """What the loop does before the next pass begins; what is being read is read to its end first."""
        loop, now = self._time.loop, self._env.now
        num_drafts = sum(max(1, len(uplinks)) for _, _, uplinks in jobs)
        first = max(0.0, self._loop_free_at - now) + loop.answering_a_pass
        self._loop_free_at = now + first + loop.answering * num_drafts
        if first:
            yield self._env.timeout(first)
        for job in jobs:
            if loop.answering:
                yield self._env.timeout(loop.answering * max(1, len(job[2])))
            self.complete([job], compute)

    # -- sessions -------------------------------------------------------------------------------------

    def _receive(self, asker: Asker, uplink: Uplink) -> None:
        held = self._sessions.get(asker.key)
        if held is None:
            if not uplink.opens:
                asker.answer(self, uplink.n, Verdict.NEED_CONTEXT, 0.0)
                return
            if len(self._queue) >= self._limits.max_queue:
                asker.answer(self, uplink.n, Verdict.BUSY, 0.0)
                return
            if len(self._sessions) >= self._limits.max_sessions:
                self._evict(next(iter(self._sessions)))
            held = self._sessions[asker.key] = _Held(asker)
        self._sessions.move_to_end(asker.key)
        if uplink.n in held.answered:
            asker.answer(self, uplink.n, Verdict.CORRECTION, 0.0)
        elif all(uplink.n != other.n for other in (*held.waiting, *held.running)):
            held.waiting.append(uplink)
            self._enqueue(held)

    def _enqueue(self, held: _Held) -> None:
        if held.ready:
            self._queue.add(held.asker.key)
            if self._work is not None and not self._work.triggered:
                self._work.succeed()

    def _forget(self, key: SessionKey) -> None:
        self._sessions.pop(key, None)
        self._queue.remove(key)

    def _evict(self, key: SessionKey) -> None:
        held = self._sessions[key]
        self._forget(key)
        self.num_evicted += 1
        for uplink in (*held.running, *held.waiting):
            held.asker.answer(self, uplink.n, Verdict.BUSY, 0.0)


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
