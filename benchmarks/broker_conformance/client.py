"""A client that can do what ours never does: keep a session, die without a word, fall silent.

Law: it adds nothing to the protocol. What it receives is in the order of arrival, with all properties.
"""

import queue
import socket
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from paho.mqtt.client import Client as PahoClient
from paho.mqtt.client import ConnectFlags, DisconnectFlags, MQTTMessage, MQTTv5
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from common.link.limits import BrokerLimits
from common.link.settings import LinkSettings
from common.link.values import FAILURE_FROM

PATIENCE = 10.0  # seconds for each answer of the broker
QUIET = 0.4  # seconds after which nothing more is expected
NO_REASON = 0  # for the end of a connection
NO_PUBLISH, END = 0, -1  # in place of a message's number: the answer to another step, the connection's end


class NoAnswerError(Exception):
    """The broker refused a step, gave no answer to it or ended the connection; the message names the step."""


@dataclass(frozen=True, slots=True)
class Will:
    """What the broker publishes when this client is gone."""

    topic: str
    payload: bytes = b"gone"
    retain: bool = False


def properties(kind: int, values: Mapping[str, object]) -> Properties:
    """Properties of a packet, named as paho names them."""
    made = Properties(kind)
    for name, value in values.items():
        setattr(made, name, value)
    return made


class Client:
    """`with Client(settings) as client: ...`; leaving the block disconnects in order, if it still can."""

    def __init__(
        self,
        settings: LinkSettings,
        name: str = "",
        *,
        clean: bool = True,
        session_expiry: int = 0,
        will: Will | None = None,
        keepalive: int = 20,
        echo_to: str = "",
    ) -> None:
        """With `echo_to`, what arrives is sent there at once, at QoS 0, instead of being kept."""
        self.name = name or f"try-{uuid.uuid4().hex[:12]}"
        self.limits = BrokerLimits()
        self.has_session = False
        self._settings, self._clean, self._keepalive = settings, clean, keepalive
        self._expiry, self._echo_to = session_expiry, echo_to
        self._inbox: queue.Queue[MQTTMessage] = queue.Queue()
        self._answers: queue.Queue[tuple[int, ReasonCode]] = queue.Queue()
        self.ended: queue.Queue[int] = queue.Queue()
        client = self._client = PahoClient(
            CallbackAPIVersion.VERSION2, self.name, protocol=MQTTv5, reconnect_on_failure=False
        )
        client.connect_timeout = PATIENCE
        if settings.username is not None:
            client.username_pw_set(settings.username, settings.current_password())
        if settings.tls:
            client.tls_set_context(settings.tls_context())
        if will is not None:
            client.will_set(will.topic, will.payload, 1, will.retain)
        client.on_connect, client.on_disconnect = self._connected, self._disconnected
        client.on_subscribe = client.on_unsubscribe = self._subscribed
        client.on_publish, client.on_message = self._published, self._received
        client.on_socket_open = _without_delay

    def __enter__(self) -> Self:
        settings, wanted = self._settings, properties(PacketTypes.CONNECT, {})
        if self._expiry:
            wanted.SessionExpiryInterval = self._expiry
        try:
            self._client.connect(
                settings.host,
                settings.port,
                self._keepalive,
                clean_start=self._clean,
                properties=wanted,
            )
        except OSError as error:
            raise NoAnswerError(f"no connection ({error.strerror or error})") from error
        self._client.loop_start()
        self._answer("CONNECT")
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.leave()

    # -- what a well-behaved client does -----------------------------------------------------------------

    def subscribe(self, pattern: str, *, retain_handling: int = 0) -> None:
        """Subscribe at QoS 1 with retain as published; returns when the broker has confirmed it."""
        options = SubscribeOptions(qos=1, retainAsPublished=True, retainHandling=retain_handling)
        self._client.subscribe(pattern, options=options)
        self._answer(f"SUBSCRIBE {pattern}")

    def unsubscribe(self, pattern: str) -> None:
        """Returns when the broker has confirmed it."""
        self._client.unsubscribe(pattern)
        self._answer(f"UNSUBSCRIBE {pattern}")

    def publish(
        self, topic: str, payload: bytes = b"", *, qos: int = 1, retain: bool = False, **values: object
    ) -> int:
        """The reason code of the broker's PUBACK; 0 at QoS 0."""
        packed = properties(PacketTypes.PUBLISH, values)
        sent = self._client.publish(topic, payload, qos, retain, packed)
        return self._answer("PUBLISH", sent.mid, may_fail=True) if qos else 0

    def receive(self, timeout: float = PATIENCE) -> MQTTMessage | None:
        """The next message; None if none comes in time."""
        try:
            return self._inbox.get(timeout=timeout)
        except queue.Empty:
            return None

    def take(self, count: int) -> list[MQTTMessage]:
        """Up to `count` messages, and any that come shortly after them."""
        found: list[MQTTMessage] = []
        while (message := self.receive(PATIENCE if len(found) < count else QUIET)) is not None:
            found.append(message)
        return found

    def rest(self) -> list[MQTTMessage]:
        """What has arrived and still arrives before it is quiet."""
        return self.take(0)

    def leave(self, reason: str = "Normal disconnection") -> None:
        """DISCONNECT with a reason, and stop."""
        self._client.disconnect(ReasonCode(PacketTypes.DISCONNECT, reason))
        self._client.loop_stop()
        if (sock := self._client.socket()) is not None:
            sock.close()

    # -- what a dying one does ---------------------------------------------------------------------------

    def die(self) -> None:
        """The end of a killed process: the connection ends without DISCONNECT."""
        sock: Any = self._client.socket()
        if sock is not None:
            sock.shutdown(socket.SHUT_RDWR)
        self._client.loop_stop()

    def fall_silent(self) -> None:
        """The end of a line: the connection stays, and nothing more is sent, not even a ping."""
        self._client.loop_stop()

    # -- paho's callbacks --------------------------------------------------------------------------------

    def _answer(self, step: str, mid: int = NO_PUBLISH, *, may_fail: bool = False) -> int:
        """The code of the answer to a step; `mid` is the number of the message, if the step is one."""
        while True:
            try:
                answered, code = self._answers.get(timeout=PATIENCE)
            except queue.Empty:
                raise NoAnswerError(f"{step}: no answer") from None
            if answered == END:
                raise NoAnswerError(f"{step}: the connection ended ({code})")
            if answered != mid:  # paho reports a message of QoS 0 too, when it has written it
                continue
            if code.value >= FAILURE_FROM and not may_fail:
                raise NoAnswerError(f"{step}: {code}")
            return code.value

    def _connected(
        self, _client: PahoClient, _data: object, flags: ConnectFlags, code: ReasonCode, stated: Any
    ) -> None:
        self.has_session = flags.session_present
        self.limits = BrokerLimits.of(stated)
        self._answers.put((NO_PUBLISH, code))

    def _disconnected(
        self, _client: PahoClient, _data: object, flags: DisconnectFlags, code: ReasonCode, _stated: Any
    ) -> None:
        self.ended.put(code.value if flags.is_disconnect_packet_from_server else NO_REASON)
        self._answers.put((END, code))

    def _subscribed(
        self, _client: PahoClient, _data: object, _mid: int, codes: list[ReasonCode], _stated: Any
    ) -> None:
        self._answers.put((NO_PUBLISH, codes[0]))

    def _published(
        self, _client: PahoClient, _data: object, mid: int, code: ReasonCode, _stated: Any
    ) -> None:
        self._answers.put((mid, code))

    def _received(self, _client: PahoClient, _data: object, message: MQTTMessage) -> None:
        if self._echo_to:
            self._client.publish(self._echo_to, message.payload)
        else:
            self._inbox.put(message)


def _without_delay(_client: PahoClient, _data: object, sock: Any) -> None:
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
