"""The worker's loop: messages from the link to the scheduler, batches to the model, answers to the link.

Law: it decides nothing. What a message means is the session's business, who comes next the scheduler's.
"""

import asyncio
import logging
import signal
import time
from collections.abc import Sequence
from contextlib import suppress
from functools import partial

from cloud_worker.config import WorkerConfig, random_worker_name
from cloud_worker.intake import Intake, note
from cloud_worker.monitoring.health import HealthPages
from cloud_worker.monitoring.presence import Presence, State, Status
from cloud_worker.monitoring.snapshot import Snapshot
from cloud_worker.monitoring.tally import Pace, Trouble, WorkerTally
from cloud_worker.monitoring.trouble_log import count_trouble
from cloud_worker.scheduling.batch import Batch
from cloud_worker.scheduling.device_rates import DeviceRates
from cloud_worker.scheduling.scheduler import Answer, Scheduler, Task
from cloud_worker.session.judging import Judged
from cloud_worker.session.session import Target
from cloud_worker.target_model import TargetModel
from common.link import Link, LinkStatistics
from common.process.log import about
from common.process.model_thread import ModelThread
from common.process.version import release
from common.protocol.codec import encode
from common.protocol.fingerprint import fingerprint
from common.protocol.topics import Topics

EXPIRY = 30  # seconds that the broker keeps an answer for a device that is away
GRACE = 0.1  # seconds for what the broker had already sent when it confirmed the end of a subscription

_log = logging.getLogger(__name__)


class Worker:
    """One process of a pool: a target model, its sessions, and the link."""

    def __init__(self, config: WorkerConfig, model: TargetModel) -> None:
        self.name = config.worker or config.account_name or random_worker_name()
        self._config = config
        self._model = model
        self._topics = Topics(config.root)
        self._scheduler = Scheduler(self._target(), config.limits)
        self._thread = ModelThread()  # never two passes at a time
        self._work = asyncio.Event()
        self._stopping = asyncio.Event()
        self._tally = WorkerTally()
        rates = DeviceRates(config.max_rate_per_device)
        self._intake = Intake(self.name, self._topics, rates, self._scheduler, self._tally)
        self._began = time.monotonic()
        self._pace = Pace(window=config.status_interval / 2, began=self._began)
        self._state = State.ONLINE
        self._news = asyncio.Event()
        self._pass_began: float | None = None
        self._link: Link | None = None
        about = Status(State.OFFLINE, config.pool, config.model, release())
        self._presence = Presence(self._topics.worker(self.name), about)

    async def run(self) -> None:
        """Serve until `stop`, then finish what is queued; LinkError when there is no broker to begin with."""
        open_filter = self._topics.open_filter(self._config.pool)
        draft_filter = self._topics.draft_filter(self._config.pool, self.name)
        link = self._link = Link(
            self._config.link_settings(f"worker-{self.name}"),
            subscriptions=[open_filter, draft_filter],
            will=self._presence.will,
            on_state=self._link_changed,
        )
        with self._thread:
            await self._serve(link, open_filter, draft_filter)

    async def _serve(self, link: Link, open_filter: str, draft_filter: str) -> None:
        async with link:
            _log.info("worker %s serves pool %s with %s", self.name, self._config.pool, self._config.model)
            reader = asyncio.create_task(self._read(link), name="reader")
            verifier = asyncio.create_task(self._verify(link), name="verifier")
            teller = asyncio.create_task(self._tell(link), name="teller")
            stopping = asyncio.create_task(self._stopping.wait(), name="stopping")
            tasks = (reader, verifier, teller, stopping)
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if self._stopping.is_set():
                await self._drain(link, open_filter, draft_filter)
            for task in tasks:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
        for result in results:
            if isinstance(result, Exception):
                raise result

    def stop(self) -> None:
        """Take nothing new, answer what is queued, and end `run`."""
        self._stopping.set()

    def _target(self) -> Target:
        vocabulary = self._model.vocabulary
        limit = self._config.max_context or self._model.max_positions
        return Target(
            worker=self.name,
            tokenizer=fingerprint(vocabulary),
            vocab_size=max(vocabulary.values()) + 1,
            max_tokens=min(limit, self._model.max_positions),
            eos_ids=self._model.eos_ids,
        )

    # -- what others may know ----------------------------------------------------------------------------

    def snapshot(self) -> Snapshot:
        """How it stands now."""
        cached = [self._model.cached_tokens(key) for key in self._scheduler.keys]
        return Snapshot(
            state=self._state,
            tally=self._tally,
            link=self._link.statistics if self._link else LinkStatistics(),
            is_connected=self._link is not None and self._link.connected,
            num_sessions=self._scheduler.num_sessions,
            num_waiting=self._scheduler.num_waiting,
            num_cached_tokens=sum(cached),
            num_used_pages=self._model.num_used_pages,
            num_pages=self._model.num_pages,
            uptime=time.monotonic() - self._began,
            pass_seconds=0.0 if self._pass_began is None else time.monotonic() - self._pass_began,
        )

    def _status(self) -> Status:
        now = time.monotonic()
        self._pace.read(self._tally, now)
        return Status(
            self._state,
            self._config.pool,
            self._config.model,
            release(),
            sessions=self._scheduler.num_sessions,
            queue=self._scheduler.num_waiting,
            batch_size=round(self._pace.batch_size, 1),
            tokens_per_second=round(self._pace.tokens_per_second, 1),
            uptime=round(now - self._began, 1),
        )

    async def _tell(self, link: Link) -> None:
        """Publish the status at once after a connect and when draining begins, else in intervals."""
        while True:
            self._news.clear()
            message = self._presence.message(self._status())
            if message is not None:
                await link.send(message.topic, message.payload, qos=message.qos, retain=message.retain)
            with suppress(TimeoutError):
                async with asyncio.timeout(self._config.status_interval):
                    await self._news.wait()

    def _link_changed(self, connected: bool) -> None:
        if connected:
            self._presence.forget()
            self._news.set()

    # -- the work -----------------------------------------------------------------------------------------

    async def _read(self, link: Link) -> None:
        async for received in link:
            await self._send(link, self._intake.receive(received, time.monotonic()))
            if self._scheduler.num_waiting:
                self._work.set()

    async def _verify(self, link: Link) -> None:
        while True:
            await self._work.wait()
            tasks, answers = self._scheduler.next_batch()
            if tasks:
                answers += await self._run(tasks)
            for key in self._scheduler.take_forgotten():
                self._model.forget(key)
            await self._send(link, answers)
            if not self._scheduler.num_waiting:
                self._work.clear()

    async def _run(self, tasks: Sequence[Task]) -> list[Answer]:
        began = self._pass_began = time.monotonic()
        try:
            judged = await self._thread.start(partial(self._judged, tasks))
        except (RuntimeError, MemoryError, ValueError) as error:
            # out of memory is a RuntimeError in torch; a ValueError is an id that only the tokenizer has
            return await self._run_apart(tasks, error)
        finally:
            self._pass_began = None
        seconds = time.monotonic() - began
        answers = self._scheduler.complete(tasks, judged, 1000 * seconds)
        self._tally.passed(len(tasks), seconds)
        self._tally.verified(tasks, answers)
        return answers

    async def _run_apart(self, tasks: Sequence[Task], error: Exception) -> list[Answer]:
        """After a failed pass: its halves, so that in the end only the task that fails alone is refused."""
        what = f"a forward pass over {len(tasks)} sessions failed"
        with about(session=", ".join(task.key.session for task in tasks[:8])):
            count_trouble(self._tally, Trouble.PASS, str(error).partition("\n")[0], what)
        if len(tasks) == 1:
            detail, is_its_fault = "the worker's model fails on this draft", isinstance(error, ValueError)
            return self._scheduler.abandon(tasks[0], detail, is_its_fault=is_its_fault)
        middle = len(tasks) // 2
        return [*await self._run(tasks[:middle]), *await self._run(tasks[middle:])]

    def _judged(self, tasks: Sequence[Task]) -> list[list[Judged] | None]:
        """One forward pass and its verdicts; a long prompt advances by a chunk, and is not judged yet."""
        batch = Batch.of(tasks, self._model.num_missing, self._config.chunk_tokens)
        return batch.judged(self._model.logits(batch.passes))

    async def _send(self, link: Link, answers: Sequence[Answer]) -> None:
        self._tally.refused(answers)
        for key, message in answers:
            note(key, message)
            topic = self._topics.correction(key.device, key.session)
            await link.send(topic, encode(message), expiry=EXPIRY)

    async def _drain(self, link: Link, open_filter: str, draft_filter: str) -> None:
        """Leave the pool without losing a draft: no new sessions, then no drafts, then the queue."""
        self._state = State.DRAINING
        self._news.set()
        _log.info("worker %s stops: finishing %d waiting sessions", self.name, self._scheduler.num_waiting)
        with suppress(TimeoutError):
            async with asyncio.timeout(10.0):
                await link.unsubscribe(open_filter, draft_filter)
                await asyncio.sleep(GRACE)
                while self._scheduler.num_waiting or self._work.is_set():
                    await asyncio.sleep(0.02)
        await self._send(link, self._scheduler.farewell("this worker is stopping"))


async def serve(worker: Worker, pages: HealthPages) -> None:
    """Run a worker until SIGTERM or SIGINT asks it to stop."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, worker.stop)
    pages.begin(worker)
    await worker.run()
