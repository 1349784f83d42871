"""The worker's retained status: what operators and dashboards see of it, and its last will.

Law: what is retained says what was last true; nothing is published when nothing has changed but the time.
"""

import dataclasses
import json
import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, cast

from common.link.values import Publish


class State(StrEnum):
    """What a worker does with new sessions."""

    ONLINE = "online"  # takes them
    DRAINING = "draining"  # takes none, and finishes what it has
    OFFLINE = "offline"  # is gone, in whatever way


@dataclass(frozen=True, slots=True)
class Status:
    """One worker at one moment, as JSON on its own topic; numbers of a worker that is gone are 0."""

    state: State
    pool: str
    model: str
    version: str
    sessions: int = 0
    queue: int = 0  # sessions with work waiting
    batch_size: float = 0.0  # sessions in one forward pass, recent mean
    tokens_per_second: float = 0.0  # made final, recently
    uptime: float = 0.0  # seconds

    def payload(self) -> bytes:
        """The status as JSON."""
        return json.dumps(dataclasses.asdict(self)).encode()


class StatusError(ValueError):
    """Bytes that are no status of a worker."""


def read_status(payload: bytes) -> Status:
    """What `Status.payload` wrote, of this or a later release; StatusError for anything else."""
    try:
        fields = json.loads(payload)
    except (ValueError, RecursionError) as error:
        raise StatusError("it is not JSON") from error
    if not isinstance(fields, dict):
        raise StatusError("it is not a JSON object")
    given = cast("dict[str, Any]", fields)
    try:
        return Status(
            State(given["state"]),
            pool=_text(given["pool"]),
            model=_text(given["model"]),
            version=_text(given["version"]),
            sessions=int(given["sessions"]),
            queue=int(given["queue"]),
            batch_size=_number(given["batch_size"]),
            tokens_per_second=_number(given["tokens_per_second"]),
            uptime=_number(given["uptime"]),
        )
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise StatusError("a field is missing or of the wrong type") from error


def _text(value: object) -> str:
    """A text that cannot play with a terminal."""
    if not isinstance(value, str):
        raise TypeError
    return "".join(one if one.isprintable() else "?" for one in value[:200])


def _number(value: Any) -> float:
    if not math.isfinite(value):
        raise ValueError
    return float(value)


OFFLINE_SHOWN = 24 * 3600  # seconds that the broker remembers a worker that has gone


class Presence:
    """The status messages of one worker on its topic, each given when it tells something new."""

    def __init__(self, topic: str, last_will: Status) -> None:
        """`last_will` is what the broker publishes when the connection ends, in whatever way."""
        self.will = Publish(topic, last_will.payload(), expiry=OFFLINE_SHOWN)
        self._topic = topic
        self._told: Status | None = None

    def forget(self) -> None:
        """After a new connection: the broker may show the will instead of what was told."""
        self._told = None

    def message(self, status: Status) -> Publish | None:
        """The message that tells this, or None when all but the time was told already."""
        if self._told is not None and status == dataclasses.replace(self._told, uptime=status.uptime):
            return None
        self._told = status
        return Publish(self._topic, status.payload(), qos=1, retain=True)
