"""The worker's retained status, which operators and dashboards read, and its last will. Pure.

Law: the retained status is the last one that was true. A status that differs only in the time is not
published again.
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
    DRAINING = "draining"  # takes none, and finishes the sessions it has
    OFFLINE = "offline"  # is gone, whether it stopped or was lost


@dataclass(frozen=True, slots=True)
class Status:
    """One worker at one moment, as JSON on its own topic; the numbers of an offline worker are 0."""

    state: State
    pool: str
    model: str
    version: str
    sessions: int = 0
    queue: int = 0  # sessions with work waiting
    batch_size: float = 0.0  # sessions in one forward pass, recent mean
    tokens_per_second: float = 0.0  # made final, recently
    uptime: float = 0.0  # seconds
    certificate_days: int | None = None  # until the first certificate of its connection expires

    def payload(self) -> bytes:
        """The status as JSON."""
        return json.dumps(dataclasses.asdict(self)).encode()


class StatusError(ValueError):
    """The payload is not the status of a worker."""


def read_status(payload: bytes) -> Status:
    """Parse what `Status.payload` wrote, in this or a later release; StatusError for anything else."""
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
            certificate_days=None if (days := given.get("certificate_days")) is None else int(days),
        )
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise StatusError("a field is missing or has the wrong type") from error


def _text(value: object) -> str:
    """The text without characters that could control a terminal."""
    if not isinstance(value, str):
        raise TypeError
    return "".join(one if one.isprintable() else "?" for one in value[:200])


def _number(value: Any) -> float:
    if not math.isfinite(value):
        raise ValueError
    return float(value)


OFFLINE_SHOWN = 24 * 3600  # seconds that the broker keeps the status of an offline worker


class Presence:
    """The status messages of one worker on its topic, each made only when it has news."""

    def __init__(self, topic: str, last_will: Status) -> None:
        """`last_will` is what the broker publishes when the connection ends in any way."""
        self.will = Publish(topic, last_will.payload(), expiry=OFFLINE_SHOWN)
        self._topic = topic
        self._published: Status | None = None

    def forget(self) -> None:
        """After a new connection: the broker may show the last will instead of the published status."""
        self._published = None

    def message(self, status: Status) -> Publish | None:
        """The message that publishes `status`; None when nothing but the time has changed."""
        last = self._published
        if last is not None and status == dataclasses.replace(last, uptime=status.uptime):
            return None
        self._published = status
        return Publish(self._topic, status.payload(), qos=1, retain=True)
