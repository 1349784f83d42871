"""Exchange messages between an agent's sessions and the broker.

Law: it decides nothing. An answer goes to the session that its topic names and to no other; one that cannot
be read is counted and ignored.
"""

import asyncio
import logging
import secrets
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

from common.floods import is_logged
from common.link import Delivery, Link, LinkError, LinkStatistics, Traffic
from common.process.log import about
from common.protocol.codec import CodecError, decode_to_device, encode
from common.protocol.messages import Correction, Draft
from common.protocol.summary import summarise
from common.protocol.topics import Topics
from edge_agent.config import AgentConfig
from edge_agent.errors import SHORTEN, BrokerError, GenerationError, raised_as
from edge_agent.generation.app_line import AppLine
from edge_agent.generation.mailbox import Inbox
from edge_agent.monitoring.totals import Totals
from edge_agent.session.events import Connecting, LinkEvent
from edge_agent.session.send_window import Outgoing
from edge_agent.session.settings import OnCloudLoss
from edge_agent.tuning.link_estimate import LinkEstimate

EXPIRY = 30  # seconds that the broker keeps a draft for a disconnected worker

_log = logging.getLogger(__name__)


class Exchange:
    """One device's connection to the pool, for all of its sessions; works while `running`."""

    def __init__(
        self, config: AgentConfig, totals: Totals, estimate: LinkEstimate, apps: AppLine | None = None
    ) -> None:
        """Answers are counted in `totals`; `estimate` learns from the drafts and their corrections.

        `apps` shares the connection.
        """
        self.is_pool_empty = False
        self.is_broker_busy = False
        self.watches: list[Callable[[], None]] = []  # called when `connected` or `is_pool_empty` may differ
        self._pool, self._device = config.pool, config.device_name
        self._topics = Topics(config.root)
        self._link = Link(
            config.link_settings(f"edge-{self._device}-{secrets.token_hex(3)}"),
            subscriptions=[
                self._topics.correction_filter(self._device),
                *(apps.subscriptions if apps else ()),
            ],
            will=apps.will if apps else None,
            wait_for_broker=config.on_cloud_loss != OnCloudLoss.FAIL.value,
            on_state=self._tell,
            patience=config.cloud_timeout,
        )
        self._apps = apps
        if apps is not None:
            apps.join(self._link)
        self._totals = totals
        self._estimate = estimate
        self._began = 0.0
        self._inboxes: dict[str, Inbox] = {}
        self._traffic: dict[str, Traffic] = {}  # of the same sessions
        self._sending: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """Connect, and deliver answers meanwhile; raises BrokerError."""
        async with AsyncExitStack() as stack:
            self._began = time.monotonic()
            with raised_as(BrokerError, LinkError):
                await stack.enter_async_context(self._link)
            reader = asyncio.create_task(self._read(), name="reader")
            try:
                yield
            finally:
                ending = [reader, *self._sending]
                for task in ending:  # a sender waits for an acknowledgement that may never come
                    task.cancel()
                await asyncio.gather(*ending, return_exceptions=True)

    @property
    def connected(self) -> bool:
        """Whether the link to the broker is up."""
        return self._link.connected

    @property
    def statistics(self) -> LinkStatistics:
        """Messages and bytes so far, as they crossed the network."""
        return self._link.statistics

    def join(self, session: str, inbox: Inbox, traffic: Traffic) -> None:
        """Put what arrives for this session into `inbox` from now on, and first the state of the link."""
        self._inboxes[session], self._traffic[session] = inbox, traffic
        if not self._link.connected:
            was_up = self._link.statistics.num_connects > 0
            inbox.put_nowait(LinkEvent.DOWN if was_up else Connecting(self._began))

    def leave(self, session: str) -> None:
        """Deliver nothing more to this session."""
        del self._inboxes[session], self._traffic[session]

    # -- up -----------------------------------------------------------------------------------------

    async def send(self, session: str, outgoing: Outgoing) -> None:
        """Publish a session's message; GenerationError when it is larger than the protocol allows."""
        try:
            payload = encode(outgoing.message)
        except ValueError as error:
            raise GenerationError(f"a draft cannot be sent: {error}; {SHORTEN}, or use lossless") from error
        if _log.isEnabledFor(logging.DEBUG):
            _log.debug("%s, to %s", summarise(outgoing.message), outgoing.worker or "any worker")
        topic, qos = self._topics.open(self._pool, self._device, session), 1
        if outgoing.worker is not None:
            topic, qos = self._topics.draft(self._pool, outgoing.worker, self._device, session), 0
        if excess := self._link.excess(topic, payload, qos=qos, expiry=EXPIRY):
            raise GenerationError(f"a draft cannot be sent: {excess}, or {SHORTEN}")
        if isinstance(outgoing.message, Draft):
            self._estimate.sent((session, outgoing.message.n), len(payload), time.monotonic())
        if outgoing.worker is None:
            # the acknowledgement takes a round trip; drafting continues meanwhile
            task = asyncio.create_task(self._open(session, topic, payload), name="open")
            self._sending.add(task)
            task.add_done_callback(self._sending.discard)
            return
        await self._link.send(topic, payload, expiry=EXPIRY, traffic=self._traffic.get(session))

    async def _open(self, session: str, topic: str, payload: bytes) -> None:
        traffic = self._traffic.get(session)
        delivery = await self._link.send(topic, payload, qos=1, expiry=EXPIRY, traffic=traffic)
        inbox = self._inboxes.get(session)
        self._note_missing_worker(delivery)
        if inbox is not None and delivery is Delivery.NO_SUBSCRIBERS:
            inbox.put_nowait(LinkEvent.NO_WORKER)
        elif inbox is not None and delivery is Delivery.REFUSED:
            inbox.put_nowait(LinkEvent.FORBIDDEN)
        elif inbox is not None and delivery is Delivery.INVALID:
            inbox.put_nowait(LinkEvent.INVALID)
        elif inbox is not None and delivery is Delivery.BUSY:
            inbox.put_nowait(LinkEvent.BUSY)

    def _note_missing_worker(self, delivery: Delivery) -> None:
        """Warn once each time the pool becomes empty, or the broker takes no more."""
        if delivery is Delivery.BUSY and not self.is_broker_busy:
            _log.warning("the broker takes no more messages for now; asking again")
        if delivery is not Delivery.DROPPED:
            self.is_broker_busy = delivery is Delivery.BUSY
        if delivery is Delivery.NO_SUBSCRIBERS and not self.is_pool_empty:
            _log.warning("no worker listens in pool %s; asking again", self._pool)
            self.is_pool_empty = True
            self._changed()

    # -- down ---------------------------------------------------------------------------------------

    def _tell(self, connected: bool) -> None:
        for inbox in self._inboxes.values():
            inbox.put_nowait(LinkEvent.UP if connected else LinkEvent.DOWN)
        if self._apps is not None:
            self._apps.tell(connected)
        self._changed()

    def _changed(self) -> None:
        for watch in self.watches:
            watch()

    async def _read(self) -> None:
        async for received in self._link:
            if self._apps is not None and self._apps.takes(received):
                continue
            try:
                session = self._topics.parse_correction(received.topic).session
            except ValueError as error:
                self._cannot_read(error)
                continue
            if session in self._traffic:
                self._traffic[session].num_bytes_down += received.num_bytes
            with about(session=session):
                self._receive(session, received.payload)

    def _receive(self, session: str, payload: bytes) -> None:
        try:
            message = decode_to_device(payload)
        except CodecError as error:
            self._cannot_read(error)
            return
        self._totals.answered(message)
        if self.is_pool_empty:
            self.is_pool_empty = False
            self._changed()
        if isinstance(message, Correction) and message.index == 0:
            self._estimate.answered((session, message.n), message.compute_ms / 1000, time.monotonic())
        if _log.isEnabledFor(logging.DEBUG):
            _log.debug("%s", summarise(message))
        if session in self._inboxes:
            self._inboxes[session].put_nowait(message)

    def _cannot_read(self, error: ValueError | CodecError) -> None:
        """Log the 1st, 2nd, 4th, 8th ... of a flood."""
        self._totals.num_unreadable = num_unread = self._totals.num_unreadable + 1
        if is_logged(num_unread):
            _log.warning("ignored an answer that cannot be read: %s; %d in all", error, num_unread)
