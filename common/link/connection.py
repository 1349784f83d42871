"""One connection to the broker, from connect to loss; every attempt makes a new one.

aiomqtt opens it, attaches it to the event loop and subscribes. This subclass adds what aiomqtt lacks: the
reason code of each PUBACK, the broker's topic aliases, receiving without a second queue and without parsing
properties, immediate writes, and a close that cannot hang. Law: when the connection ends, everything that
waits for the broker gets an answer.
"""

import asyncio
import contextlib
import fcntl
import logging
import socket
import ssl
import sys
import termios
import threading
from collections.abc import Awaitable, Coroutine, Sequence
from typing import Any, TypeAlias, TypeVar

import aiomqtt
from paho.mqtt.client import Client as PahoClient
from paho.mqtt.client import ConnectFlags, DisconnectFlags
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from common.link.certificates import certificates_of
from common.link.explain import HUNG_UP, explain, explain_loss, explain_subscription, reason_of
from common.link.limits import BrokerLimits
from common.link.line_watch import LineWatch, Look
from common.link.packets import TopicAliases, publish_size
from common.link.properties import packed_size, publish_properties
from common.link.reader import OnMessage, Reader
from common.link.settings import LinkError, LinkSettings, RefusedError
from common.link.values import FAILURE_FROM, Certificate, Delivery, Publish
from common.link.will import will_of

MAX_BACKLOG_BYTES = 1024 * 1024  # queued for the network; above this QoS 0 is dropped
CLOSE_TIMEOUT = 1.0
LOOK_INTERVAL = 1.0  # seconds
PACKETS_PER_TURN = 32  # read at once: under load a turn of the event loop costs more than a packet
NO_ANSWER = 0x8D  # MQTT's code for a side that does not answer within the keepalive

_OVERHEAD = 32  # more than a PUBLISH has besides topic and payload
_NO_DELAY = ((socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),)
_SUCCESS = 0
_REPLAY, _NO_REPLAY = SubscribeOptions.RETAIN_SEND_ON_SUBSCRIBE, SubscribeOptions.RETAIN_DO_NOT_SEND
_SILENT = logging.getLogger(f"{__name__}.paho")  # the link reports in its own words
_SILENT.setLevel(logging.CRITICAL + 1)

Answer = TypeVar("Answer")
Socket: TypeAlias = Any  # paho's SocketLike, which it does not export


class Connection(aiomqtt.Client):
    """A clean MQTT 5 connection without Nagle's delay; use `open`, `send`, `until_lost`, `close`."""

    def __init__(
        self,
        settings: LinkSettings,
        will: Publish | None,
        on_message: OnMessage,
        known: BrokerLimits | None = None,
    ) -> None:
        """`known` is what an earlier connection has shown of the broker's limits."""
        self._known = known or BrokerLimits()
        will = self._known.fit(will) if will else None
        super().__init__(
            settings.host,
            settings.port,
            username=settings.username,
            password=settings.current_password(),
            identifier=settings.client_id or None,
            protocol=aiomqtt.ProtocolVersion.V5,
            will=will_of(will) if will else None,
            clean_start=True,
            timeout=settings.connect_timeout,
            keepalive=settings.keepalive,
            tls_context=settings.tls_context(),
            socket_options=_NO_DELAY,
            logger=_SILENT,
        )
        self._settings = settings
        self._has_will = will is not None
        self._loop_thread = threading.get_ident()
        self._abandoned = False
        self.limits = self._known
        self._aliases = TopicAliases(0)
        self._unacknowledged = asyncio.Semaphore(self.limits.max_unacknowledged)
        self._acknowledgements: dict[int, asyncio.Future[int | None]] = {}
        self._backlog: dict[int, int] = {}  # bytes of each QoS 0 packet that is not yet written
        self._is_writing = False
        self._client.connect_timeout = settings.connect_timeout
        self._client.on_connect = self._accepted
        self._client.on_disconnect = self._ended
        self._client.on_message = None
        self._client.on_publish = None
        self._client.on_socket_open = self._opened
        self._client.on_socket_register_write = self._write_wanted
        self._reader = Reader.attach(self._client, on_message)
        self._watch = LineWatch(settings.keepalive, self._loop.time())
        self._lost_line = False
        self._resuming: asyncio.TimerHandle | None = None

    async def open(self, subscriptions: Sequence[str], *, wants_retained: bool) -> None:
        """Connect and subscribe at QoS 1, with or without retained messages; LinkError if that fails."""
        try:
            await self.__aenter__()
            self._disconnected.add_done_callback(self._fail_waiting)
            await self._subscribe_all(subscriptions, wants_retained)
        except aiomqtt.MqttError as error:
            self._drop()
            raise RefusedError(explain(error, self._settings), reason_of(error)) from error
        except (asyncio.CancelledError, LinkError):
            self._abandoned = True
            self._drop()
            raise

    def certificates(self) -> tuple[Certificate, ...]:
        """When the certificates of this connection expire; none without TLS."""
        sock = self._client.socket()
        broker = sock.getpeercert(binary_form=True) if isinstance(sock, ssl.SSLSocket) else None
        return certificates_of(self._settings, broker)

    async def until_lost(self) -> tuple[str, int | None]:
        """Wait for the end of the connection; returns what ended it, and the code if the broker gave one."""
        await asyncio.wait([self._disconnected])
        if self._lost_line:
            return "the line is dead", NO_ANSWER
        return explain_loss(self._disconnected.exception())

    async def send(self, publish: Publish) -> tuple[Delivery, int]:
        """Publish; returns the outcome and the bytes of the packet (0 if none was sent)."""
        publish = self.limits.fit(publish)
        if not self.fits(publish):
            return Delivery.TOO_LARGE, 0
        if publish.qos == 0:
            return self._send_unacknowledged(publish)
        async with self._unacknowledged:
            return await self._send_acknowledged(publish)

    def fits(self, publish: Publish) -> bool:
        """Whether the broker takes a packet of this size."""
        limit, at_most = (
            self.limits.max_packet_size,
            len(publish.payload) + 4 * len(publish.topic) + _OVERHEAD,
        )
        return at_most <= limit or self.size_of(publish) <= limit

    def size_of(self, publish: Publish) -> int:
        """Bytes of the whole packet, at most: an alias that the broker knows saves the topic."""
        alias = 1 if publish.qos == 0 and self.limits.max_aliases else None
        topic = "" if alias and self._aliases.knows(publish.topic) else publish.topic
        properties = publish_properties(publish.expiry, alias, publish.correlation)
        return publish_size(topic, publish.payload, packed_size(properties), publish.qos)

    def _send_unacknowledged(self, publish: Publish) -> tuple[Delivery, int]:
        if sum(self._backlog.values()) > MAX_BACKLOG_BYTES:
            return Delivery.DROPPED, 0
        topic, alias = self._aliases.assign(publish.topic)
        mid, num_bytes = self._publish(publish, topic, alias)
        if mid is None:
            return Delivery.DROPPED, 0
        self._write_now()
        self._watch.sent(self._loop.time(), num_bytes)
        if self._client.want_write():
            self._backlog[mid] = num_bytes
            self._client.on_publish = self._published
        return Delivery.SENT, num_bytes

    async def _send_acknowledged(self, publish: Publish) -> tuple[Delivery, int]:
        mid, num_bytes = self._publish(publish, publish.topic, None)
        if mid is None:
            return Delivery.DROPPED, 0
        acknowledgement: asyncio.Future[int | None] = self._loop.create_future()
        self._acknowledgements[mid] = acknowledgement
        self._client.on_publish = self._published
        self._write_now()
        self._watch.sent(self._loop.time(), num_bytes)
        return Delivery.of(await acknowledgement), num_bytes

    def _publish(self, publish: Publish, topic: str, alias: int | None) -> tuple[int | None, int]:
        """Hand the packet to paho; returns its number, None if there is no connection, and its bytes."""
        properties = publish_properties(publish.expiry, alias, publish.correlation)
        self._is_writing = True
        try:
            info = self._client.publish(topic, publish.payload, publish.qos, publish.retain, properties)
        finally:
            self._is_writing = False
        if info.rc != _SUCCESS:
            return None, 0
        return info.mid, publish_size(topic, publish.payload, packed_size(properties), publish.qos)

    def _write_now(self) -> None:
        """Write what was published; only what does not fit waits for the loop, at two system calls."""
        self._client.loop_write()
        if self._client.want_write() and (sock := self._client.socket()) is not None:
            self._write_when_possible(sock)

    async def close(self) -> None:
        """Send DISCONNECT (the broker then publishes the will), give it a moment to leave, hang up."""
        if not self._disconnected.done():
            code = "Disconnect with will message" if self._has_will else "Normal disconnection"
            self._client.disconnect(ReasonCode(PacketTypes.DISCONNECT, code))
            self._client.loop_write()
            await asyncio.wait([self._disconnected], timeout=CLOSE_TIMEOUT)
        self._drop()

    async def _wait_for(self, fut: Awaitable[Answer], timeout: float | None) -> Answer:
        """Replaces aiomqtt's, whose asyncio.wait_for can lose a cancellation in Python 3.11."""
        try:
            async with asyncio.timeout(self.timeout if timeout is None else timeout):
                return await fut
        except TimeoutError:
            raise aiomqtt.MqttError("timeout") from None

    async def _subscribe_all(self, subscriptions: Sequence[str], wants_retained: bool) -> None:
        if not self._client.is_connected():  # it ended before anything could wait for its end
            raise aiomqtt.MqttCodeError(HUNG_UP)
        if not subscriptions:
            return
        for name in subscriptions:
            if missing := self.limits.missing(name):
                raise LinkError(
                    f"the broker at {self._settings.address} has no {missing}: use one that has, such as "
                    "mosquitto 2"
                )
        handling = _REPLAY if wants_retained else _NO_REPLAY
        options = SubscribeOptions(qos=1, retainAsPublished=True, retainHandling=handling)
        granted = await self._unless_it_ends(self.subscribe([(name, options) for name in subscriptions]))
        for name, code in zip(subscriptions, granted, strict=True):
            if isinstance(code, ReasonCode) and code.value >= FAILURE_FROM:
                raise explain_subscription(name, code, self._settings)

    async def _unless_it_ends(self, answer: Coroutine[None, None, Answer]) -> Answer:
        """The answer, or at once the error that ended the connection; aiomqtt would wait for its timeout."""
        asked = asyncio.ensure_future(answer)
        try:
            await asyncio.wait([asked, self._disconnected], return_when=asyncio.FIRST_COMPLETED)
            if not asked.done():
                raise self._disconnected.exception() or aiomqtt.MqttCodeError(HUNG_UP)
            return asked.result()
        finally:
            asked.cancel()

    def _drop(self) -> None:
        """Hang up without DISCONNECT. paho notices the end of the stream and cleans up."""
        self._hang_up()
        while self._client.socket() is not None and self._client.loop_read() == _SUCCESS:
            pass  # read what has already arrived
        for future in (self._connected, self._disconnected):
            if future.done() and not future.cancelled():
                future.exception()  # reported already, or no longer of interest
        self._fail_waiting()

    def _hang_up(self) -> None:
        sock = self._client.socket()
        if isinstance(sock, socket.socket):
            with contextlib.suppress(OSError):  # the other side has already closed it
                sock.shutdown(socket.SHUT_RDWR)

    def _fail_waiting(self, _disconnected: object = None) -> None:
        for acknowledgement in self._acknowledgements.values():
            if not acknowledgement.done():
                acknowledgement.set_result(None)
        self._acknowledgements.clear()
        self._backlog.clear()

    # -- paho's callbacks ------------------------------------------------------------------------------

    def _accepted(
        self,
        client: PahoClient,
        data: object,
        flags: ConnectFlags,
        code: ReasonCode,
        properties: Properties | None,
    ) -> None:
        self.limits = BrokerLimits.of(properties).both(self._known)
        self._aliases = TopicAliases(self.limits.max_aliases)
        self._unacknowledged = asyncio.Semaphore(self.limits.max_unacknowledged)
        self._watch.keepalive = client.keepalive
        self._on_connect(client, data, flags, code, properties)

    def _ended(
        self,
        client: PahoClient,
        data: object,
        flags: DisconnectFlags,
        code: ReasonCode,
        properties: Properties | None,
    ) -> None:
        if not self._connected.done():  # otherwise aiomqtt waits for its timeout
            self._connected.set_exception(aiomqtt.MqttCodeError(code))
        self._on_disconnect(client, data, flags, code, properties)

    def _published(
        self, _client: PahoClient, _data: object, mid: int, code: ReasonCode, _properties: Properties
    ) -> None:
        self._backlog.pop(mid, None)
        acknowledgement = self._acknowledgements.pop(mid, None)
        if acknowledgement is not None and not acknowledgement.done():
            acknowledgement.set_result(code.value)
        if not self._acknowledgements and not self._backlog:
            self._client.on_publish = None  # paho's report takes 30 us, and no one waits for it now

    # aiomqtt adds the socket to the loop by its descriptor, in a later turn. If the connection is dropped in
    # between, the descriptor may already belong to another socket, so these check the socket itself first.

    def _opened(self, _client: PahoClient, _data: object, sock: Socket) -> None:
        if self._abandoned:  # the caller left while the thread was still connecting
            raise ConnectionAbortedError("no longer wanted")
        self._loop.call_soon_threadsafe(self._join, sock)

    def _write_wanted(self, _client: PahoClient, _data: object, sock: Socket) -> None:
        if self._is_writing:
            return  # `send` writes right after publishing
        if threading.get_ident() == self._loop_thread:
            self._write_when_possible(sock)
        else:
            self._loop.call_soon_threadsafe(self._write_when_possible, sock)

    def _join(self, sock: Socket) -> None:
        if sock.fileno() >= 0:
            self._loop.add_reader(sock.fileno(), self._read)
            self._misc_task = self._loop.create_task(self._misc_loop(), name="keepalive")

    async def _misc_loop(self) -> None:
        """Replaces aiomqtt's: also ping a line that has fallen silent, and hang up on one that is dead."""
        self._watch.heard(self._loop.time())
        while True:
            match self._watch.look(self._loop.time(), num_unacknowledged(self._client.socket())):
                case Look.PING:
                    self._reader.ping()
                case Look.HANG_UP:
                    self._lost_line = True
                    self._drop()
                    return
                case Look.NOTHING:
                    pass
            if self._client.loop_misc() != _SUCCESS:
                return
            await asyncio.sleep(LOOK_INTERVAL)

    def pause_reading(self, seconds: float) -> None:
        """Read nothing until `resume_reading`, or for this long; what arrives waits in the kernel."""
        sock = self._client.socket()
        if self._resuming is None and sock is not None and self._loop.remove_reader(sock.fileno()):
            self._resuming = self._loop.call_later(seconds, self.resume_reading)

    def resume_reading(self) -> None:
        """Read again, and first what has arrived."""
        if self._resuming is None:
            return
        self._resuming.cancel()
        self._resuming = None
        sock = self._client.socket()
        if sock is not None and sock.fileno() >= 0:
            self._loop.add_reader(sock.fileno(), self._read)
            if num_unread(sock):
                self._read()

    def _write_when_possible(self, sock: Socket) -> None:
        if sock.fileno() >= 0:
            self._loop.add_writer(sock.fileno(), self._client.loop_write)

    def _read(self) -> None:
        is_understood = False
        self._watch.heard(self._loop.time())
        try:
            for _ in range(PACKETS_PER_TURN):
                self._client.loop_read()
                if not num_unread(self._client.socket()):
                    break
            while isinstance(sock := self._client.socket(), ssl.SSLSocket) and sock.pending() > 0:
                self._client.loop_read()
            is_understood = True
        finally:
            if not is_understood:
                self._hang_up()


def num_unacknowledged(sock: object) -> int:
    """Bytes that the kernel still holds because the other side has not acknowledged them; 0 if unknown."""
    return _asked_of_kernel(sock, termios.TIOCOUTQ)


def num_unread(sock: object) -> int:
    """Bytes that have arrived and not been read yet; 0 if unknown."""
    return _asked_of_kernel(sock, termios.FIONREAD)


def _asked_of_kernel(sock: object, request: int) -> int:
    if not isinstance(sock, socket.socket) or sock.fileno() < 0:
        return 0
    try:
        answer = fcntl.ioctl(sock.fileno(), request, b"\0\0\0\0")
    except OSError:  # not on this system
        return 0
    return int.from_bytes(answer, sys.byteorder)
