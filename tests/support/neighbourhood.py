"""A worker in virtual time with one device that behaves and accounts that do not; equal runs are equal.

Law: scheduler, sessions, batches and charges are real; only the model and the clock are replaced. What a
message, a position, a row and an answer cost is given in seconds. As in a worker, one thread reads, plans and
answers, and another one runs passes.
"""

import heapq
import random
import statistics
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from cloud_worker.passes.forward_pass import Pass, common_prefix
from cloud_worker.scheduling.batch import Batch, Outcome
from cloud_worker.scheduling.costs import CostKind, Costs, Work
from cloud_worker.scheduling.limits import Limits
from cloud_worker.scheduling.scheduler import Answer, Scheduler, SessionKey, Task
from cloud_worker.session.session import Target
from common.protocol.messages import MAX_CONTEXT_PROBS, Correction, Draft, DraftToken, Refusal
from tests.support.fakes import TOKENIZER, VOCAB_SIZE, opening

GOOD = "good"
NUM_SESSIONS = 16
CHUNK_TOKENS = 256
WARM_UP = 0.5  # seconds


@dataclass(frozen=True, slots=True)
class Machine:
    """What things take, in seconds: about the demo's model on one core."""

    link: float = 4e-5
    decoding: float = 6e-5
    dropping: float = 2e-5
    planning: float = 5e-5
    answer: float = 8e-5
    fixed: float = 1.5e-3
    position: float = 5e-5
    row: float = 4e-5


@dataclass(frozen=True, slots=True)
class Kind:
    """What hostile accounts send, and how much more their messages and rows take than usual ones."""

    draft: Callable[[int], Draft]
    decoding: float = 1.0
    row: float = 1.0
    is_garbage: bool = False


def _fresh(n: int, num_context: int, num_block: int, **fields: int) -> Draft:
    ids = random.Random(n).choices(range(VOCAB_SIZE), k=num_context)
    block = tuple(DraftToken(number % VOCAB_SIZE) for number in range(num_block))
    return Draft(n, 0, 0, tuple(ids), block, opening=opening(n), **fields)


KINDS = {
    "small": Kind(lambda n: _fresh(n, 2, 4)),
    "prompts": Kind(lambda n: _fresh(n, 300, 0, bonus=1)),
    "worst": Kind(
        lambda n: _fresh(n, MAX_CONTEXT_PROBS + 1, 1, num_context_probs=MAX_CONTEXT_PROBS), row=8.0
    ),
    "llm": Kind(lambda n: _fresh(n, 2, 0, bonus=4096)),
    "checks": Kind(
        lambda n: _fresh(0, 400, 0, bonus=1) if n == 0 else Draft(n, 0, 100, (1,), (), 1, check=7)
    ),
    "garbage": Kind(lambda n: _fresh(n, 2, 4), decoding=8.0, is_garbage=True),
}


@dataclass(slots=True)
class Neighbourhood:
    """Run it, then look at what the good device got."""

    kind: Kind | None = None
    num_accounts: int = 0
    rate: float = 200.0
    think: float = 0.02
    machine: Machine = field(default_factory=Machine)
    latencies: list[float] = field(default_factory=list)
    num_refused: int = 0  # drafts of the good device
    num_shed: dict[str, int] = field(default_factory=dict)
    num_served: dict[str, int] = field(default_factory=dict)
    costs: Costs = field(default_factory=lambda: Costs(1e-3))
    _scheduler: Scheduler = field(init=False)
    _now: float = 0.0
    _events: list[tuple[float, int, Callable[[], None]]] = field(default_factory=list)
    _loop: deque[Callable[[], None]] = field(default_factory=deque)
    _num_events: int = 0
    _is_busy: bool = False
    _cached: dict[object, Sequence[int]] = field(default_factory=dict)
    _sent_at: float = 0.0
    _n: int = 0

    def __post_init__(self) -> None:
        target = Target("w0", TOKENIZER, VOCAB_SIZE, max_tokens=8192)
        self._scheduler = Scheduler(target, Limits(seat_seconds=10.0, max_wait=2.0), self.costs)

    def run(self, seconds: float, settle: float = 2.0) -> "Neighbourhood":
        """Attack for `settle` seconds, then let the good device draft; its first WARM_UP does not count."""
        for number in range(self.num_accounts):
            self._at(
                number / self.rate / max(1, self.num_accounts),
                lambda name=f"d{number}": self._attack(name, 0),
            )
        self._at(settle, self._draft)
        self._at(settle + WARM_UP, self.latencies.clear)
        while self._now < settle + WARM_UP + seconds:
            while self._events and (not self._loop or self._events[0][0] <= self._now):
                at, _, event = heapq.heappop(self._events)
                self._now = max(self._now, at)
                event()
            if self._loop:
                self._loop.popleft()()
        return self

    @property
    def p50(self) -> float:
        """Median latency of the good device, in seconds."""
        return statistics.median(self.latencies)

    @property
    def p99(self) -> float:
        """The 99th percentile."""
        return statistics.quantiles(self.latencies, n=100, method="inclusive")[98]

    # -- devices ---------------------------------------------------------------------------------------

    def _attack(self, name: str, number: int) -> None:
        assert self.kind is not None
        key = SessionKey(name, f"s{number % NUM_SESSIONS}")
        draft = self.kind.draft(number // NUM_SESSIONS)
        self._loop.append(lambda: self._read(key, draft, self.kind))
        self._at(self._now_of(name, number + 1), lambda: self._attack(name, number + 1))

    def _now_of(self, name: str, number: int) -> float:
        return number / self.rate + int(name[1:]) / self.rate / self.num_accounts

    def _draft(self) -> None:
        self._sent_at, self._n = self._now, self._n + 1
        draft = Draft(self._n, 0, 0, tuple(range(10)) * 2, (DraftToken(1),) * 4, opening=opening(5))
        self._loop.append(lambda: self._read(SessionKey(GOOD, "s"), draft, None))

    def _hear(self, message: Correction | Refusal) -> None:
        if isinstance(message, Refusal):
            self.num_refused += 1
        else:
            self.latencies.append(self._now - self._sent_at)
        self._at(self._now + self.think, self._draft)

    # -- the event loop --------------------------------------------------------------------------------

    def _read(self, key: SessionKey, draft: Draft, kind: Kind | None) -> None:
        self.costs.hear(key.device, self._now)
        seconds = self.machine.link + self.machine.dropping
        answers: list[Answer] = []
        if self.costs.sheds(key.device, self._now):
            self.num_shed[key.device] = self.num_shed.get(key.device, 0) + 1
        else:
            seconds += self.machine.decoding * (kind.decoding if kind else 1.0)
            if kind is None or not kind.is_garbage:
                answers = self._scheduler.receive(key, draft, self._now)
        self._spend(key.device, CostKind.READING, seconds)
        self._answer(answers, lambda: None)
        self._loop.append(self._plan)

    def _plan(self) -> None:
        if self._is_busy or not self._scheduler.num_waiting:
            return
        self._is_busy = True
        tasks, answers = self._scheduler.next_batch(self._now)
        found = [one.key.device for one in (*tasks, *answers)]
        for device in found:
            self._spend(device, CostKind.PLANNING, self.machine.planning / 2)
        if not tasks:
            self._answer(answers, self._finish)
            return
        batch = Batch.of(tasks, self._num_missing, CHUNK_TOKENS, self._scheduler.rooms(tasks))
        forward = self.machine.fixed + self.machine.position * sum(batch.num_positions)
        rows = [np.zeros((one.num_rows, VOCAB_SIZE), np.float32) for one in batch.passes]
        for one in batch.passes:
            self._cached[one.session] = one.tokens
        single = self._scheduler.are_single(tasks)
        work = [
            Work(
                task.key.device, count, chunk.num_rows if chunk else 0, self._judging(task, chunk), is_single
            )
            for task, chunk, count, is_single in zip(
                tasks, batch.chunks, batch.num_positions, single, strict=True
            )
        ]
        outcomes = batch.judged(rows)
        end = self._now + forward + sum(one.judging_seconds for one in work)
        self._at(
            end, lambda: self._loop.append(lambda: self._complete(tasks, answers, outcomes, work, forward))
        )

    def _complete(
        self,
        tasks: list[Task],
        answers: list[Answer],
        outcomes: Sequence[Outcome],
        work: Sequence[Work],
        forward: float,
    ) -> None:
        self.costs.charge_pass(work, forward, self._now)
        answers += self._scheduler.complete(tasks, outcomes, 1000 * forward)
        for key in self._scheduler.take_forgotten():
            self._cached.pop(key, None)
        self._answer(answers, self._finish)

    def _finish(self) -> None:
        self._is_busy = False
        self._loop.append(self._plan)

    def _answer(self, answers: Sequence[Answer], then: Callable[[], None]) -> None:
        """Four in one turn of the loop."""
        for key, message in answers[:4]:
            self._spend(key.device, CostKind.ANSWERING, self.machine.answer)
            self.num_served[key.device] = self.num_served.get(key.device, 0) + isinstance(message, Correction)
            if key.device == GOOD:
                self._hear(message)
        if len(answers) > 4:
            self._loop.append(lambda: self._answer(answers[4:], then))
        else:
            then()

    # -- time ------------------------------------------------------------------------------------------

    def _spend(self, device: str, kind: CostKind, seconds: float) -> None:
        self._now += seconds
        self.costs.charge(device, kind, seconds, self._now)

    def _at(self, at: float, event: Callable[[], None]) -> None:
        self._num_events += 1
        heapq.heappush(self._events, (at, self._num_events, event))

    # -- the model -------------------------------------------------------------------------------------

    def _judging(self, task: Task, chunk: Pass | None) -> float:
        price = self.kind.row if self.kind is not None and task.key.device != GOOD else 1.0
        return self.machine.row * price * (chunk.num_rows if chunk else 0)

    def _num_missing(self, one: Pass) -> int:
        held = self._cached.get(one.session, ())
        return len(one.tokens) - one.start(common_prefix(one.tokens, held))
