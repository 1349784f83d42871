"""MQTT 5 PUBLISH packets: reading one, its size in bytes, and the topic aliases that shorten it.

Law: pure bookkeeping; nothing here touches a connection.
"""

from collections import OrderedDict
from dataclasses import dataclass, field

_MAX_VARINT = 4  # bytes


class MalformedPacketError(ValueError):
    """A packet that no correct broker sends."""


@dataclass(frozen=True, slots=True)
class PublishPacket:
    """A packet with its properties unread; `mid` is the number to acknowledge, if there is one."""

    topic: str
    payload: bytes
    mid: int | None
    retain: bool = field(default=False, compare=False)
    properties: bytes = field(default=b"", compare=False)


def read_publish(first_byte: int, body: bytes | bytearray) -> PublishPacket:
    """Read a packet of QoS 0 or 1 with any properties; `body` is everything that its length counts.

    MalformedPacketError if it is cut short, its topic is not UTF-8, or its QoS is 2, which we never ask for.
    """
    qos = first_byte >> 1 & 3
    topic_end = 2 + int.from_bytes(body[:2], "big")
    properties_at = topic_end + (2 if qos else 0)
    size, at = _read_varint(body, properties_at)
    if qos > 1 or at + size > len(body):
        raise MalformedPacketError(f"a PUBLISH of QoS {qos} with {len(body)} bytes")
    try:
        topic = body[2:topic_end].decode()
    except UnicodeDecodeError as error:
        raise MalformedPacketError("a topic that is not UTF-8") from error
    mid = int.from_bytes(body[topic_end:properties_at], "big") if qos else None
    payload, properties = bytes(memoryview(body)[at + size :]), bytes(body[at : at + size])
    return PublishPacket(topic, payload, mid, bool(first_byte & 1), properties)


def _read_varint(body: bytes | bytearray, at: int) -> tuple[int, int]:
    """The number that begins at a position, and the position after it."""
    value = 0
    for num, byte in enumerate(body[at : at + _MAX_VARINT]):
        value |= (byte & 127) << 7 * num
        if byte < 128:
            return value, at + num + 1
    raise MalformedPacketError("a length without an end")


def publish_size(topic: str, payload: bytes, properties_size: int, qos: int) -> int:
    """Bytes of the whole packet; `properties_size` includes the length prefix of the packed properties."""
    remaining = 2 + len(topic.encode()) + (2 if qos else 0) + properties_size + len(payload)
    return 1 + _varint_size(remaining) + remaining


class TopicAliases:
    """Short numbers for the topics of one connection; a new topic replaces the least recently used one."""

    def __init__(self, maximum: int) -> None:
        self._maximum = maximum
        self._numbers: OrderedDict[str, int] = OrderedDict()

    def knows(self, topic: str) -> bool:
        """Whether the broker has this topic's number."""
        return topic in self._numbers

    def assign(self, topic: str) -> tuple[str, int | None]:
        """The topic to write into the packet ("" if the alias is enough) and the alias, if any."""
        if topic in self._numbers:
            self._numbers.move_to_end(topic)
            return "", self._numbers[topic]
        if self._maximum == 0:
            return topic, None
        if len(self._numbers) < self._maximum:
            number = len(self._numbers) + 1
        else:
            _, number = self._numbers.popitem(last=False)
        self._numbers[topic] = number
        return topic, number


def _varint_size(value: int) -> int:
    return 1 if value < 2**7 else 2 if value < 2**14 else 3 if value < 2**21 else 4
