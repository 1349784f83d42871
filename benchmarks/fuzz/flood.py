"""Sends hostile messages as fast as a worker takes them, in hand-written MQTT packets.

Law: a client library would refuse to send what a hostile device sends, so the packets are written here, and
their properties are as odd as their payloads. It is counted whether the broker should pass each message on to
the worker, so that none is lost unnoticed.
"""

import random
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from benchmarks.fuzz.messages import DEVICES, Aim, forbidden, payloads, topics
from benchmarks.fuzz.properties import REFUSED_PROPERTIES, properties
from common.protocol.messages import Opening

BURST = 50  # messages in one write
FORBIDDEN_EVERY = 5000
_CONNECT, _PUBLISH = 0x10, 0x30


@dataclass(slots=True)
class Flood:
    """One attacker. `send` blocks; equal seeds send equal messages."""

    port: int
    opening: Opening
    seed: int
    aim: Aim = field(default_factory=Aim)
    devices: Sequence[str] = DEVICES
    num_sent: int = 0
    num_aimed: int = 0  # those that reach the worker
    num_kicked: int = 0  # connections that the broker closed, as it should
    _socket: socket.socket | None = field(default=None, repr=False)

    def send(self, count: int, pause: Callable[[], None] = lambda: None) -> None:
        """Send `count` messages; `pause` is called before each burst and may block."""
        rng = random.Random(self.seed)
        targets = topics(self.aim, rng, self.devices)
        stream = zip(payloads(self.opening, rng), targets, properties(rng), strict=False)
        self._connect()
        while self.num_sent < count:
            pause()
            self._burst(stream, min(BURST, count - self.num_sent), rng)
        self._close()

    def _burst(self, stream: Iterator[tuple[bytes, str, bytes]], count: int, rng: random.Random) -> None:
        packets = bytearray()
        for _, (payload, topic, odd) in zip(range(count), stream, strict=False):
            packets += publish(topic.encode(), payload, odd)
            self.num_aimed += self.aim.reaches(topic)
        assert self._socket is not None
        self._socket.sendall(packets)
        if self.num_sent // FORBIDDEN_EVERY < (self.num_sent + count) // FORBIDDEN_EVERY:
            with suppress(ConnectionError):  # the broker may close before it has read everything
                self._socket.sendall(self._forbidden(rng))
            self.num_kicked += 1
            self._close()
            self._connect()
        self.num_sent += count

    def _forbidden(self, rng: random.Random) -> bytes:
        """Return a packet for which a broker closes the connection."""
        if rng.random() < 0.3:
            return publish(next(topics(self.aim, rng)).encode(), b"", rng.choice(REFUSED_PROPERTIES))
        return publish(*forbidden(self.aim, rng))

    def _connect(self) -> None:
        self._socket = connect(self.port)

    def _close(self) -> None:
        """Let the broker read everything that was sent, then close."""
        assert self._socket is not None
        with suppress(OSError):  # the broker closed first
            self._socket.shutdown(socket.SHUT_WR)
            while self._socket.recv(4096):
                pass
        self._socket.close()


def connect(port: int) -> socket.socket:
    """Connect to the broker of this machine as an unknown client; ConnectionError if it refuses."""
    sock = socket.create_connection(("127.0.0.1", port), timeout=60)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.sendall(packet(_CONNECT, b"\0\4MQTT\5\2\0\0\0\0\0"))
    if sock.recv(1)[:1] != b"\x20":
        raise ConnectionError("the broker refuses the connection")
    return sock


def publish(topic: bytes, payload: bytes, properties: bytes = b"", *, qos: int = 0, mid: int = 1) -> bytes:
    """Return a PUBLISH packet with unchecked topic, packed properties (without their length) and payload."""
    number = mid.to_bytes(2, "big") if qos else b""
    body = len(topic).to_bytes(2, "big") + topic + number + varint(len(properties)) + properties + payload
    return packet(_PUBLISH | qos << 1, body)


def packet(kind: int, body: bytes) -> bytes:
    """Return an MQTT packet: its kind, the length and the body."""
    return bytes([kind]) + varint(len(body)) + body


def varint(value: int) -> bytes:
    """Encode a number in groups of seven bits."""
    digits = bytearray()
    while True:
        value, digit = divmod(value, 128)
        digits.append(digit | (0x80 if value else 0))
        if not value:
            return bytes(digits)
