"""What goes into the link and what comes out of it."""

from dataclasses import dataclass
from enum import Enum, auto

NO_MATCHING_SUBSCRIBERS = 0x10
FAILURE_FROM = 0x80  # MQTT 5's reason codes for what went wrong


@dataclass(frozen=True, slots=True)
class Received:
    """A message from the broker."""

    topic: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class Publish:
    """A message to publish, by the link or, as last will, by the broker; `expiry` is in seconds."""

    topic: str
    payload: bytes
    qos: int = 1
    retain: bool = True
    expiry: int | None = None


class Delivery(Enum):
    """What became of a message that was to be sent."""

    SENT = auto()  # on its way (QoS 0), or taken over by the broker (QoS 1)
    NO_SUBSCRIBERS = auto()  # QoS 1 only: the broker took it and nobody listens
    REFUSED = auto()  # QoS 1 only: the broker does not allow it
    DROPPED = auto()  # no connection, or it broke before the broker took the message, or the line is jammed

    @classmethod
    def of(cls, reason: int | None) -> "Delivery":
        """The outcome that a PUBACK's reason code states; None means that no PUBACK came."""
        if reason is None:
            return cls.DROPPED
        if reason == NO_MATCHING_SUBSCRIBERS:
            return cls.NO_SUBSCRIBERS
        return cls.SENT if reason < FAILURE_FROM else cls.REFUSED


@dataclass(slots=True)
class LinkStatistics:
    """Counts since the link began. Bytes are whole PUBLISH packets as they cross the network (before TLS)."""

    num_messages_up: int = 0
    num_bytes_up: int = 0
    num_messages_down: int = 0
    num_bytes_down: int = 0
    num_dropped_up: int = 0  # not sent, see Delivery.DROPPED
    num_dropped_down: int = 0  # arrived, and pushed out of the full inbox by later ones
    num_connects: int = 0  # the first one included
