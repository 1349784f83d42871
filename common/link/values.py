"""The values that go into the link and come out of it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum, auto

NO_MATCHING_SUBSCRIBERS = 0x10
NOT_AUTHORIZED = 0x87
_INVALID = (0x90, 0x99)  # topic name, payload format
FAILURE_FROM = 0x80  # MQTT 5's reason codes from here on are failures
WARN_DAYS = 30  # before a certificate expires


@dataclass(frozen=True, slots=True)
class Received:
    """A message from the broker; `retain` as it was published, `properties` as they came, see `reply_to`.

    `num_bytes` are those of the whole packet.
    """

    topic: str
    payload: bytes
    retain: bool = field(default=False, compare=False)
    properties: bytes = field(default=b"", compare=False, repr=False)
    num_bytes: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Publish:
    """A message that the link publishes, or the broker as a last will; `expiry` is in seconds."""

    topic: str
    payload: bytes
    qos: int = 1
    retain: bool = True
    expiry: int | None = None
    correlation: bytes | None = None  # of a reply


class Delivery(Enum):
    """What became of a message."""

    SENT = auto()  # on its way (QoS 0), or accepted by the broker (QoS 1)
    NO_SUBSCRIBERS = auto()  # QoS 1 only: the broker accepted it, but no one subscribes to it
    REFUSED = auto()  # QoS 1 only: the broker does not allow it to this account
    INVALID = auto()  # QoS 1 only: the broker takes no such topic or payload from anyone
    BUSY = auto()  # QoS 1 only: the broker cannot take it now, for example for lack of quota; later it may
    TOO_LARGE = auto()  # larger than the largest packet that the broker takes
    DROPPED = auto()  # no connection, one lost before the broker accepted the message, or a jammed line

    @classmethod
    def of(cls, reason: int | None) -> "Delivery":
        """The outcome for a PUBACK's reason code; None means that no PUBACK came."""
        if reason is None:
            return cls.DROPPED
        if reason < FAILURE_FROM:
            return cls.NO_SUBSCRIBERS if reason == NO_MATCHING_SUBSCRIBERS else cls.SENT
        if reason == NOT_AUTHORIZED:
            return cls.REFUSED
        return cls.INVALID if reason in _INVALID else cls.BUSY


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate of a connection (`name`: broker, client, authority) and when it expires, in Unix time."""

    name: str
    expires: float


def days_left(certificates: Sequence[Certificate], now: float) -> int | None:
    """Whole days until the first of them expires, negative after that; None without certificates."""
    return min((int((one.expires - now) // 86400) for one in certificates), default=None)


@dataclass(slots=True)
class Traffic:
    """Bytes of a part of what a link carries, in whole PUBLISH packets as in `LinkStatistics`."""

    num_bytes_up: int = 0
    num_bytes_down: int = 0


@dataclass(slots=True)
class LinkStatistics:
    """Counts since the link began, and the certificates of the last connection.

    Bytes are whole PUBLISH packets as they cross the network (before TLS).
    """

    num_messages_up: int = 0
    num_bytes_up: int = 0
    num_messages_down: int = 0
    num_bytes_down: int = 0
    num_dropped_up: int = 0  # not sent, see Delivery.DROPPED
    num_dropped_down: int = 0  # dropped unread from a full inbox
    num_connects: int = 0  # including the first
    certificates: tuple[Certificate, ...] = ()
