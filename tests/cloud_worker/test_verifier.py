"""The verifier beside its event loop: what it does when a pass fails, and when it has nothing left to do."""

import asyncio
import threading
from collections.abc import Hashable, Sequence

from cloud_worker.monitoring.tally import ErrorKind, WorkerTally
from cloud_worker.passes.forward_pass import Pass
from cloud_worker.scheduling.fair_queue import SessionKey
from cloud_worker.scheduling.limits import Limits
from cloud_worker.scheduling.scheduler import Scheduler
from cloud_worker.scheduling.task import Answer
from cloud_worker.session.job import Rows
from cloud_worker.session.session import Target
from cloud_worker.verifier import Verifier
from common.protocol.messages import Close, Correction, Draft, DraftToken, Refusal
from tests.support.fakes import TOKENIZER, VOCAB_SIZE, FakeModel, opening

POISON = 11


class SteppedModel:
    """A target model that fails where POISON occurs, and waits in each pass until `go` is set."""

    def __init__(self) -> None:
        self.began, self.go = threading.Event(), threading.Event()
        self.go.set()
        self.forgotten: list[Hashable] = []
        self._model = FakeModel(0)

    def num_missing(self, one: Pass) -> int:
        return len(one.tokens)

    def logits(self, passes: Sequence[Pass]) -> list[Rows]:
        self.began.set()
        assert self.go.wait(30)
        if any(POISON in one.tokens for one in passes):
            raise RuntimeError("out of memory")
        return [self._model.rows(one.tokens, one.num_rows).astype("float32") for one in passes]

    def forget(self, session: Hashable) -> None:
        self.forgotten.append(session)


class Bench:
    """A verifier with its parts, and the answers that it has sent."""

    def __init__(self) -> None:
        self.model, self.tally = SteppedModel(), WorkerTally()
        self.scheduler = Scheduler(Target("w0", TOKENIZER, VOCAB_SIZE, max_tokens=64), Limits())
        self.verifier = Verifier(self.model, self.scheduler, self.tally, chunk_tokens=256)
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
        with bench.verifier:
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
        with bench.verifier:
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
        with bench.verifier:
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
        with bench.verifier:
            running = asyncio.create_task(bench.verifier.run(bench.send))
            await bench.verifier.idle()
            running.cancel()
        assert bench.model.forgotten == [SessionKey("device0", "s")]

    asyncio.run(scenario())
