"""The verifier beside its event loop: what it does when a pass fails, and when it has nothing left to do."""

import asyncio
import threading
from collections.abc import Callable, Hashable, Mapping, Sequence
from types import TracebackType
from typing import Self

from tokenizers import Tokenizer

from cloud_worker.engines.engine import Engine, EngineLostError, Part, Verified
from cloud_worker.engines.local import LocalEngine
from cloud_worker.monitoring.tally import ErrorKind, WorkerTally
from cloud_worker.passes.forward_pass import Pass
from cloud_worker.scheduling.fair_queue import SessionKey
from cloud_worker.scheduling.limits import Limits
from cloud_worker.scheduling.scheduler import Scheduler
from cloud_worker.scheduling.task import Answer, Task
from cloud_worker.session.job import Rows
from cloud_worker.session.judging import judge
from cloud_worker.session.session import Target
from cloud_worker.verifier import Verifier
from common.protocol.messages import Close, Correction, Draft, DraftToken, Reason, Refusal
from tests.support.fakes import TOKENIZER, VOCAB_SIZE, FakeModel, UncachedTarget, opening

POISON = 11


class SteppedModel(UncachedTarget):
    """A target model that fails where POISON occurs, and waits in each pass until `go` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.began, self.go = threading.Event(), threading.Event()
        self.go.set()
        self._model = FakeModel(0)

    def logits(self, passes: Sequence[Pass]) -> list[Rows]:
        self.began.set()
        assert self.go.wait(30)
        if any(POISON in one.tokens for one in passes):
            raise RuntimeError("out of memory")
        return [self._model.rows(one.tokens, one.num_rows).astype("float32") for one in passes]


class Bench:
    """A verifier with its parts, and the answers that it has sent."""

    def __init__(self, engine: Engine | None = None) -> None:
        self.model, self.tally = SteppedModel(), WorkerTally()
        self.scheduler = Scheduler(Target("w0", TOKENIZER, VOCAB_SIZE, max_tokens=64), Limits())
        self.engine: Engine = engine or LocalEngine(self.model)
        self.verifier = Verifier(self.engine, self.scheduler, self.tally)
        self.sent: list[Answer] = []
        self.is_sending = asyncio.Event()
        self.may_send = asyncio.Event()
        self.may_send.set()

    def receive(self, number: int, token: int) -> None:
        draft = Draft(0, 0, 0, (1, token), (DraftToken(4),), opening=opening(number))
        assert self.scheduler.receive(SessionKey(f"device{number}", "s"), draft) == []
        self.verifier.wake()

    async def send(self, answers: Sequence[Answer]) -> None:
        self.is_sending.set()
        await self.may_send.wait()
        self.sent += answers


def test_it_is_idle_before_any_work_and_after_a_message_that_brings_none() -> None:
    async def scenario() -> None:
        bench = Bench()
        await bench.verifier.idle()
        bench.scheduler.receive(SessionKey("device", "s"), Close())
        bench.verifier.wake()
        await bench.verifier.idle()

    asyncio.run(scenario())


def test_it_is_idle_only_when_every_answer_has_been_sent() -> None:
    async def scenario() -> None:
        bench = Bench()
        bench.may_send.clear()
        async with bench.engine:
            running = asyncio.create_task(bench.verifier.run(bench.send))
            bench.receive(0, 2)
            idle = asyncio.create_task(bench.verifier.idle())
            await bench.is_sending.wait()
            assert not idle.done()
            bench.may_send.set()
            await idle
            assert [answer.key.device for answer in bench.sent] == ["device0"]
            running.cancel()

    asyncio.run(scenario())


def test_what_arrives_during_a_pass_is_answered_before_it_is_idle() -> None:
    async def scenario() -> None:
        bench = Bench()
        bench.model.go.clear()
        async with bench.engine:
            running = asyncio.create_task(bench.verifier.run(bench.send))
            bench.receive(0, 2)
            await asyncio.to_thread(bench.model.began.wait, 30)
            bench.receive(1, 3)
            bench.model.go.set()
            await bench.verifier.idle()
            assert [answer.key.device for answer in bench.sent] == ["device0", "device1"]
            assert bench.verifier.pass_seconds == 0.0
            running.cancel()

    asyncio.run(scenario())


def test_a_failed_pass_is_counted_and_only_the_bad_draft_is_refused() -> None:
    async def scenario() -> None:
        bench = Bench()
        for number, token in enumerate((2, POISON, 3)):
            bench.receive(number, token)
        async with bench.engine:
            running = asyncio.create_task(bench.verifier.run(bench.send))
            await bench.verifier.idle()
            running.cancel()
        kinds = {answer.key.device: type(answer.message) for answer in bench.sent}
        assert kinds == {"device0": Correction, "device1": Refusal, "device2": Correction}
        assert bench.tally.num_errors[ErrorKind.PASS] == 3  # all three, the last two, the bad one
        assert bench.tally.batch_sizes.num_values == 2

    asyncio.run(scenario())


def test_the_cache_of_a_closed_session_is_dropped_after_the_pass() -> None:
    async def scenario() -> None:
        bench = Bench()
        bench.receive(0, 2)
        bench.receive(1, 3)
        bench.scheduler.receive(SessionKey("device0", "s"), Close())
        async with bench.engine:
            running = asyncio.create_task(bench.verifier.run(bench.send))
            await bench.verifier.idle()
            running.cancel()
        assert bench.model.forgotten == [SessionKey("device0", "s")]

    asyncio.run(scenario())


# -- an engine that serves many at once, and may be lost -----------------------------------------------


class ServingEngine:
    """An engine in the manner of a server: it takes one task per call, several calls at once, until lost."""

    vocabulary: Mapping[str, int] = {}
    eos_ids: frozenset[int] = frozenset()
    tokenizer: Callable[[], Tokenizer] | None = None
    max_positions = 64
    num_pages = num_used_pages = 0
    max_batch = 1
    fault = None

    def __init__(self, batches_at_once: int) -> None:
        self.batches_at_once = batches_at_once
        self.in_flight: list[SessionKey] = []
        self.most_in_flight = 0
        self.full, self.go = asyncio.Event(), asyncio.Event()
        self.is_lost = False
        self._model = FakeModel(0)

    def cached_tokens(self, _session: Hashable) -> int:
        return 0

    def forget(self, session: Hashable) -> None:
        pass

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    async def verify(self, tasks: Sequence[Task], rooms: Sequence[int | None]) -> Verified:
        ((task,), (_,)) = tasks, rooms
        assert task.key not in self.in_flight
        self.in_flight.append(task.key)
        self.most_in_flight = max(self.most_in_flight, len(self.in_flight))
        if len(self.in_flight) == self.batches_at_once:
            self.full.set()
        await self.go.wait()
        self.in_flight.remove(task.key)
        if self.is_lost:
            raise EngineLostError("connection refused")
        rows = self._model.rows(task.job.tokens, task.job.num_rows).astype("float32")
        return Verified([Part(judge(task.job, rows), len(task.job.tokens), len(rows))], 0.001)


def serving_bench(engine: ServingEngine) -> Bench:
    bench = Bench(engine)
    limits = Limits(max_batch=1, batches_at_once=engine.batches_at_once)
    bench.scheduler = Scheduler(Target("w0", TOKENIZER, VOCAB_SIZE, max_tokens=64), limits)
    bench.verifier = Verifier(engine, bench.scheduler, bench.tally)
    return bench


def test_a_serving_engine_has_as_many_batches_in_flight_as_it_takes() -> None:
    async def scenario() -> None:
        engine = ServingEngine(3)
        bench = serving_bench(engine)
        for number in range(7):
            bench.receive(number, 2)
        running = asyncio.create_task(bench.verifier.run(bench.send))
        await engine.full.wait()
        assert bench.scheduler.num_waiting == 4
        idle = asyncio.create_task(bench.verifier.idle())
        await asyncio.sleep(0)
        assert not idle.done()
        assert bench.verifier.pass_seconds > 0.0
        engine.go.set()
        await idle
        assert sorted(answer.key.device for answer in bench.sent) == [f"device{i}" for i in range(7)]
        assert all(isinstance(answer.message, Correction) for answer in bench.sent)
        assert engine.most_in_flight == 3
        running.cancel()

    asyncio.run(scenario())


def test_it_is_idle_only_when_no_batch_is_in_flight() -> None:
    async def scenario() -> None:
        engine = ServingEngine(2)
        bench = serving_bench(engine)
        bench.receive(0, 2)
        bench.receive(1, 2)
        running = asyncio.create_task(bench.verifier.run(bench.send))
        await engine.full.wait()
        assert bench.scheduler.num_waiting == 0
        idle = asyncio.create_task(bench.verifier.idle())
        await asyncio.sleep(0)
        assert not idle.done()
        engine.go.set()
        await idle
        assert len(bench.sent) == 2
        running.cancel()

    asyncio.run(scenario())


def test_a_lost_engine_is_busy_and_never_a_fault_of_the_session() -> None:
    async def scenario() -> None:
        engine = ServingEngine(1)
        engine.is_lost = True
        engine.go.set()
        bench = serving_bench(engine)
        running = asyncio.create_task(bench.verifier.run(bench.send))
        key = SessionKey("device0", "s")
        for n in range(10):  # a session's own failures would end it after five
            draft = Draft(n, 0, 0, (1, 2), (DraftToken(4),), opening=opening(0))
            assert bench.scheduler.receive(key, draft) == []
            bench.verifier.wake()
            await bench.verifier.idle()
        refusals = [answer.message for answer in bench.sent if isinstance(answer.message, Refusal)]
        assert [one.reason for one in refusals] == [Reason.BUSY] * 10
        assert {one.retry_after for one in refusals} == {1.0}
        assert bench.tally.num_errors[ErrorKind.ENGINE] == 10
        assert bench.tally.num_errors[ErrorKind.PASS] == 0
        running.cancel()

    asyncio.run(scenario())
