"""The worker: connects the link, the scheduler and the engine, from start to draining.

Law: it decides nothing. Sessions decide what a message means, the scheduler decides who is served next.
"""

import asyncio
import logging
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial

from cloud_worker.config import WorkerConfig
from cloud_worker.engines.engine import Engine
from cloud_worker.grammars import Compiling, WorkerGrammars
from cloud_worker.intake import Intake, note
from cloud_worker.monitoring.announcer import Announcer
from cloud_worker.monitoring.health import HealthPages
from cloud_worker.monitoring.presence import Presence
from cloud_worker.monitoring.snapshot import Snapshot
from cloud_worker.monitoring.tally import Pace, WorkerTally
from cloud_worker.scheduling.costs import CostKind, Costs
from cloud_worker.scheduling.device_rates import DeviceRates
from cloud_worker.scheduling.limits import Limits
from cloud_worker.scheduling.scheduler import Scheduler
from cloud_worker.scheduling.task import Answer
from cloud_worker.session.admission import Target
from cloud_worker.verifier import Verifier
from common.link import Link, LinkStatistics
from common.link.values import days_left
from common.process.version import release
from common.protocol.codec import encode
from common.protocol.messages import Correction
from common.protocol.topics import Topics
from common.protocol.worker_status import State, Status

EXPIRY = 30  # seconds that the broker keeps an answer for a device that is away
DRAIN_SECONDS = 10.0  # the longest a stopping worker works on its queue
# A broker may deliver messages that it had already queued after it has confirmed the end of the subscription
# (MQTT 5, 3.10.4), and nothing marks the last one. So a stopping worker keeps reading for this long.
GRACE = 0.1  # seconds
ANSWERS_PER_TURN = 4  # of the event loop: messages that have arrived are read in between
FIRST_GUESS = 1e-3  # seconds for a position and for a row, until the first pass has been timed
SWITCH_SECONDS = 5e-4  # for which judging may keep the event loop waiting; Python's default is ten times that

_log = logging.getLogger(__name__)


class Worker:
    """One process of a pool: an engine for the target model, its sessions, and the link."""

    def __init__(self, config: WorkerConfig, engine: Engine) -> None:
        self.name = config.worker_name()
        self._config = config
        self._engine = engine
        self._topics = Topics(config.root)
        self._filters = (
            self._topics.open_filter(config.pool),
            self._topics.draft_filter(config.pool, self.name),
        )
        self._tally = WorkerTally()
        max_context = config.max_tokens(engine.max_positions)
        grammars = WorkerGrammars(engine.tokenizer) if engine.tokenizer is not None else None
        target = Target.of(self.name, engine.vocabulary, max_context, engine.eos_ids, grammars)
        self._costs = Costs(FIRST_GUESS)
        self._answering: set[asyncio.Task[None]] = set()  # of what had to wait for its grammar
        self._scheduler = Scheduler(target, _limits(config.limits, engine), self._costs)
        rates = DeviceRates(config.max_rate_per_device)
        self._intake = Intake(
            target,
            self._topics,
            rates,
            self._scheduler,
            self._tally,
            self._costs,
            Compiling(grammars, self._costs) if grammars is not None else None,
            self._send_later,
        )
        self._verifier = Verifier(engine, self._scheduler, self._tally, self._costs)
        self._stopping = asyncio.Event()
        self._link: Link | None = None
        self._began = time.monotonic()
        self._pace = Pace(window=config.status_interval / 2, began=self._began)
        self._last_will = Status(State.OFFLINE, config.pool, config.model, release(), max_context=max_context)
        self._presence = Presence(self._topics.worker(self.name), self._last_will)
        self._announcer = Announcer(self._presence, self._status, config.status_interval)
        self._state = State.ONLINE

    async def run(self) -> None:
        """Serve until `stop`, then finish what is queued; LinkError when the broker cannot be reached."""
        link = self._link = Link(
            self._config.link_settings(f"worker-{self.name}"),
            subscriptions=self._filters,
            will=self._presence.will,
            on_state=self._announcer.link_changed,
        )
        async with self._engine:
            await self._serve(link)

    async def _serve(self, link: Link) -> None:
        async with link:
            _log.info("worker %s serves pool %s with %s", self.name, self._config.pool, self._config.model)
            loops = (
                asyncio.create_task(self._read(link), name="reader"),
                asyncio.create_task(self._verifier.run(partial(self._send, link), link), name="verifier"),
                asyncio.create_task(self._announcer.run(link), name="announcer"),
                asyncio.create_task(self._stopping.wait(), name="stopping"),
            )
            await asyncio.wait(loops, return_when=asyncio.FIRST_COMPLETED)
            if self._stopping.is_set():
                await self._drain(link)
            for loop in loops:
                loop.cancel()
            results = await asyncio.gather(*loops, return_exceptions=True)
        for result in results:
            if isinstance(result, Exception):
                raise result

    def stop(self) -> None:
        """Accept nothing new, answer what is queued, and end `run`."""
        self._stopping.set()

    async def _read(self, link: Link) -> None:
        async for received in link:
            await self._send(link, self._intake.receive(received, time.monotonic()))
            self._verifier.wake()

    def _send_later(self, answers: Sequence[Answer]) -> None:
        self._verifier.wake()
        if answers and self._link is not None:
            task = asyncio.create_task(self._send(self._link, answers), name="answering")
            self._answering.add(task)
            task.add_done_callback(self._answering.discard)

    async def _send(self, link: Link, answers: Sequence[Answer]) -> None:
        self._tally.count_refusals(answers)
        for number, (key, message) in enumerate(answers, 1):
            began = time.thread_time()
            note(key, message)
            topic = self._topics.correction(key.device, key.session)
            await link.send(topic, encode(message), expiry=EXPIRY)
            seconds = time.thread_time() - began
            is_single = isinstance(message, Correction) and not self._scheduler.waits(key.device)
            now = time.monotonic()
            self._costs.charge(key.device, CostKind.ANSWERING, seconds, now, is_single=is_single)
            if number % ANSWERS_PER_TURN == 0:
                await asyncio.sleep(0)

    async def _drain(self, link: Link) -> None:
        """Leave the pool without losing a draft: take no more, finish the queue, say goodbye."""
        self._state = State.DRAINING
        self._announcer.announce()
        _log.info("worker %s stops: finishing %d waiting sessions", self.name, self._scheduler.num_waiting)
        with suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_SECONDS):
                await link.unsubscribe(*self._filters)
                await asyncio.sleep(GRACE)
                await self._verifier.idle()
        await self._send(link, self._scheduler.farewell("this worker is stopping"))

    # -- what it shows of itself -------------------------------------------------------------------------

    def snapshot(self) -> Snapshot:
        """The worker's state now, for metrics and health."""
        cached = [self._engine.cached_tokens(key) for key in self._scheduler.keys]
        return Snapshot(
            state=self._state,
            tally=self._tally,
            link=self._link.statistics if self._link else LinkStatistics(),
            is_connected=self._link is not None and self._link.connected,
            num_sessions=self._scheduler.num_sessions,
            num_waiting=self._scheduler.num_waiting,
            num_cached_tokens=sum(cached),
            num_used_pages=self._engine.num_used_pages,
            num_pages=self._engine.num_pages,
            uptime=time.monotonic() - self._began,
            pass_seconds=self._verifier.pass_seconds,
            engine_fault=self._engine.fault,
            charged_seconds={kind.value: total for kind, total in self._costs.seconds.items()},
        )

    def _status(self) -> Status:
        now = time.monotonic()
        self._pace.update(self._tally, now)
        certificates = self._link.statistics.certificates if self._link else ()
        return replace(
            self._last_will,
            state=self._state,
            sessions=self._scheduler.num_sessions,
            queue=self._scheduler.num_waiting,
            batch_size=round(self._pace.batch_size, 1),
            tokens_per_second=round(self._pace.tokens_per_second, 1),
            uptime=round(now - self._began, 1),
            certificate_days=days_left(certificates, time.time()),
        )


def _limits(limits: Limits, engine: Engine) -> Limits:
    """The limits of the settings, with those of the engine."""
    max_batch = limits.max_batch if engine.max_batch is None else min(limits.max_batch, engine.max_batch)
    return replace(limits, max_batch=max_batch, batches_at_once=engine.batches_at_once)


async def serve(worker: Worker, pages: HealthPages) -> None:
    """Run a worker until SIGTERM or SIGINT asks it to stop."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, worker.stop)
    sys.setswitchinterval(SWITCH_SECONDS)
    pages.begin(worker)
    await worker.run()
