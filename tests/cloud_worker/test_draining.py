"""A worker that is asked to stop answers what it has taken, then sends its sessions away."""

import asyncio
import threading
from collections.abc import Sequence

from benchmarks.support.scripted import VOCABULARY, Script, ScriptedTarget
from cloud_worker.config import WorkerConfig
from cloud_worker.engines.local import LocalEngine
from cloud_worker.passes.forward_pass import Pass
from cloud_worker.session.job import Rows
from cloud_worker.worker import Worker
from common.link import Link, LinkSettings
from common.protocol.codec import decode_to_device, encode
from common.protocol.fingerprint import fingerprint
from common.protocol.messages import Correction, Draft, Opening, Reason, Refusal, ToDevice
from common.protocol.topics import Topics
from common.protocol.worker_status import State, read_status
from common.sampling.distribution import Sampling
from evaluation.local.broker import LocalBroker


class HeldTarget(ScriptedTarget):
    """A scripted model whose passes begin, and end only when they may."""

    def __init__(self) -> None:
        super().__init__(Script())
        self.began, self.may_end = threading.Event(), threading.Event()

    def logits(self, passes: Sequence[Pass]) -> list[Rows]:
        """The script's rows, when they may be had."""
        self.began.set()
        assert self.may_end.wait(30)
        return super().logits(passes)


def test_a_stopping_worker_finishes_its_pass_and_then_says_goodbye(broker: LocalBroker) -> None:
    topics = Topics()
    opened = Opening(fingerprint(VOCABULARY), len(VOCABULARY), Sampling(0.0), 1)
    draft = Draft(0, 0, 0, (1, 2), (), bonus=1, opening=opened)
    model = HeldTarget()
    worker = Worker(WorkerConfig(broker=broker.url, worker="w0"), LocalEngine(model))

    async def scenario() -> list[ToDevice]:
        subscriptions = [topics.worker("w0"), topics.correction_filter("device")]
        async with Link(LinkSettings(broker.url), subscriptions=subscriptions) as link:

            async def until(state: State) -> None:
                while read_status((await link.receive()).payload).state is not state:
                    pass

            running = asyncio.create_task(worker.run())
            await until(State.ONLINE)
            await link.send(topics.open("demo", "device", "s"), encode(draft), qos=1)
            await asyncio.to_thread(model.began.wait, 30)
            worker.stop()
            await until(State.DRAINING)
            model.may_end.set()
            answers = [decode_to_device((await link.receive()).payload) for _ in range(2)]
            await until(State.OFFLINE)
            await running
            return answers

    correction, farewell = asyncio.run(asyncio.wait_for(scenario(), 30))
    assert isinstance(correction, Correction)
    assert farewell == Refusal(None, Reason.BUSY, "w0", "this worker is stopping")
