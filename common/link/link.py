"""The link to the broker: it connects, reconnects, sends, and delivers what arrives.

Law: nothing piles up while the broker is away. A message that cannot be sent now is reported as dropped,
because the protocol sends again what is still needed. Every reconnect starts a clean session and subscribes
again. The link decides nothing about messages: it does not know what they mean.
"""

import asyncio
import logging
import random
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from types import TracebackType
from typing import Self

import aiomqtt

from common.floods import is_logged
from common.link.connection import Connection
from common.link.explain import SESSION_TAKEN_OVER
from common.link.inbox import Inbox
from common.link.limits import BrokerLimits
from common.link.packets import PublishPacket
from common.link.settings import LinkError, LinkSettings, RefusedError
from common.link.values import (
    WARN_DAYS,
    Certificate,
    Delivery,
    LinkStatistics,
    Publish,
    Received,
    Traffic,
    days_left,
)

FIRST_DELAY = 0.25
MAX_DELAY = 8.0

_log = logging.getLogger(__name__)


class Link:
    """`async with Link(settings, subscriptions=[...]) as link`, then `link.send(...)`, `async for m in link`.

    The broker publishes `will` however the connection ends, including at the end of the `with` block.
    `on_state(connected)` is called in the event loop. If the first connect fails, entering the block raises
    LinkError; with `wait_for_broker` the link keeps trying instead. A broker that refuses the first one only
    for now (busy, quota) is tried again for `patience` seconds. Retained messages are delivered only with
    `wants_retained`, because other clients can retain anything on the topics they may write to.
    """

    def __init__(
        self,
        settings: LinkSettings,
        *,
        subscriptions: Sequence[str] = (),
        will: Publish | None = None,
        on_state: Callable[[bool], None] | None = None,
        wait_for_broker: bool = False,
        wants_retained: bool = False,
        patience: float = 20.0,
    ) -> None:
        self._settings = settings
        self._subscriptions = list(subscriptions)
        self._will = will
        self._on_state = on_state
        self._wait_for_broker = wait_for_broker
        self._wants_retained = wants_retained
        self._patience = patience
        self._known = BrokerLimits()  # what the broker has shown, beyond what it states
        self._num_too_large = 0
        self._connection: Connection | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._is_up = False
        self._leaving = False
        self._inbox = Inbox()
        self._statistics = LinkStatistics()

    async def __aenter__(self) -> Self:
        first = None if self._wait_for_broker else await self._connect_patiently()
        self._keeper = asyncio.create_task(self._keep_connected(first), name="link")
        self._keeper.add_done_callback(lambda _task: self._inbox.close())
        return self

    async def __aexit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        assert self._keeper is not None
        self._leaving = True
        self._keeper.cancel()
        await asyncio.wait([self._keeper])
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()
        if not self._keeper.cancelled():
            self._keeper.result()

    # -- sending ---------------------------------------------------------------------------------------

    async def send(
        self,
        topic: str,
        payload: bytes,
        *,
        qos: int = 0,
        retain: bool = False,
        expiry: int | None = None,
        correlation: bytes | None = None,
        traffic: Traffic | None = None,
    ) -> Delivery:
        """Publish, or drop and report that. QoS 1 waits for the broker's answer or the connection's end.

        `expiry` is in seconds: how long the broker may keep the message for a client that is offline.
        `correlation` is what the message that this one replies to asked to have with it. The bytes are also
        counted in `traffic`.
        """
        connection, delivery, num_bytes = self._connection, Delivery.DROPPED, 0
        if connection is not None:
            publish = Publish(topic, payload, qos, retain, expiry, correlation)
            delivery, num_bytes = await connection.send(publish)
            if delivery is Delivery.TOO_LARGE:
                self._complain(connection.size_of(publish), connection.limits.max_packet_size)
        if num_bytes:
            self._statistics.num_messages_up += 1
            self._statistics.num_bytes_up += num_bytes
            if traffic is not None:
                traffic.num_bytes_up += num_bytes
        if delivery in (Delivery.DROPPED, Delivery.TOO_LARGE):
            self._statistics.num_dropped_up += 1
        return delivery

    def excess(self, topic: str, payload: bytes, *, qos: int = 0, expiry: int | None = None) -> str | None:
        """What is wrong with a message that the broker does not take for its size; None if it takes it."""
        connection = self._connection
        if connection is None:
            return None
        publish = Publish(topic, payload, qos, False, expiry)
        if connection.fits(publish):
            return None
        return _too_large(connection.size_of(publish), connection.limits.max_packet_size)

    def _complain(self, size: int, limit: int) -> None:
        """Log the 1st, 2nd, 4th, 8th ... message that is too large."""
        self._num_too_large += 1
        if is_logged(self._num_too_large):
            _log.warning("not sent: %s; %d in all", _too_large(size, limit), self._num_too_large)

    def pause_reading(self, seconds: float) -> None:
        """Take in nothing until `resume_reading`, or for this long; nothing is lost meanwhile."""
        if self._connection is not None:
            self._connection.pause_reading(seconds)

    def resume_reading(self) -> None:
        """Take in what arrives again."""
        if self._connection is not None:
            self._connection.resume_reading()

    async def unsubscribe(self, *subscriptions: str) -> None:
        """Stop receiving for good; returns when the broker has confirmed this or is away."""
        self._subscriptions = [name for name in self._subscriptions if name not in subscriptions]
        if self._connection is not None:
            try:
                await self._connection.unsubscribe(list(subscriptions))
            except aiomqtt.MqttError as error:
                _log.info("not unsubscribed before the connection ended: %s", error)

    # -- receiving -------------------------------------------------------------------------------------

    async def receive(self) -> Received:
        """The next message, in order of arrival and across reconnects; LinkError once the link is closed."""
        message = await self._inbox.get()
        if message is None:
            raise LinkError("the link is closed")
        return message

    async def __aiter__(self) -> AsyncIterator[Received]:
        while (message := await self._inbox.get()) is not None:
            yield message

    # -- state -----------------------------------------------------------------------------------------

    @property
    def connected(self) -> bool:
        """True while messages can be sent."""
        return self._is_up

    @property
    def statistics(self) -> LinkStatistics:
        """A copy of the counts so far."""
        return replace(self._statistics)

    # -- connecting ------------------------------------------------------------------------------------

    async def _keep_connected(self, connection: Connection | None) -> None:
        delay = FIRST_DELAY
        now = asyncio.get_running_loop().time
        while not self._leaving:
            tried_at = now()
            if connection is None:
                connection = await self._try_to_connect()
            if connection is not None:
                began = asyncio.get_running_loop().time()
                reason, code = await connection.until_lost()
                self._known = self._known.without(code)
                self._connection = connection = None
                self._change_state(connected=False)
                if asyncio.get_running_loop().time() - began > MAX_DELAY:
                    delay = FIRST_DELAY
                elif code in (None, SESSION_TAKEN_OVER):  # do not hurry back
                    reason += "; if that repeats, another client may have the same client id"
                _log.warning("lost the broker at %s (%s)", self._settings.address, reason)
                tried_at = now()
            # an attempt that nothing answers takes its time itself
            await asyncio.sleep(max(FIRST_DELAY / 2, tried_at + delay * random.uniform(0.5, 1.0) - now()))
            delay = min(2 * delay, MAX_DELAY)

    async def _connect_patiently(self) -> Connection:
        """The first connection: a refusal for now is not the end."""
        now = asyncio.get_running_loop().time
        end, delay = now() + self._patience, FIRST_DELAY
        while True:
            try:
                return await self._connect()
            except RefusedError as error:
                if not error.is_temporary or now() + delay > end:
                    raise
                _log.warning("%s (trying again)", error)
            await asyncio.sleep(delay * random.uniform(0.5, 1.0))
            delay = min(2 * delay, MAX_DELAY)

    async def _try_to_connect(self) -> Connection | None:
        try:
            connection = await self._connect()
        except LinkError as error:
            _log.warning("%s (trying again)", error)
            return None
        _log.info("connected to %s", self._settings.address)
        return connection

    async def _connect(self) -> Connection:
        connection = Connection(self._settings, self._will, self._arrived, self._known)
        try:
            await connection.open(self._subscriptions, wants_retained=self._wants_retained)
        except RefusedError as error:
            known, self._known = self._known, self._known.without(error.reason)
            if self._known == known:
                raise
            return await self._connect()  # the last will was the reason: now it fits
        if not connection.limits.keeps_retained and self._will is not None and self._will.retain:
            _log.warning("the broker at %s keeps no retained messages: no status", self._settings.address)
        self._connection = connection
        self._note_certificates(connection.certificates())
        self._change_state(connected=True)
        return connection

    def _note_certificates(self, certificates: tuple[Certificate, ...]) -> None:
        """Warn of those that soon expire, once each."""
        known, self._statistics.certificates = self._statistics.certificates, certificates
        for one in certificates:
            days = days_left([one], time.time())
            if one not in known and days is not None and days < WARN_DAYS:
                day = datetime.fromtimestamp(one.expires, UTC)
                when = f"expires in {days} days, on" if days >= 0 else "has expired on"
                _log.warning("TLS: %s %s %s: renew it", self._name(one), when, f"{day:%Y-%m-%d}")

    def _name(self, certificate: Certificate) -> str:
        match certificate.name:
            case "client":
                return f"the client certificate {self._settings.cert_file}"
            case "authority":
                return f"the authority {self._settings.ca_file}"
            case _:
                return f"the certificate of {self._settings.address}"

    def _change_state(self, *, connected: bool) -> None:
        self._is_up = connected
        if connected:
            self._statistics.num_connects += 1
        if self._on_state is not None:
            self._on_state(connected)

    def _arrived(self, packet: PublishPacket, num_bytes: int) -> None:
        received = Received(packet.topic, packet.payload, packet.retain, packet.properties, num_bytes)
        self._statistics.num_messages_down += 1
        self._statistics.num_bytes_down += num_bytes
        self._statistics.num_dropped_down += self._inbox.put(received)


def _too_large(size: int, limit: int) -> str:
    return f"a message of {size} bytes, but the broker takes at most {limit} bytes: raise its max_packet_size"
