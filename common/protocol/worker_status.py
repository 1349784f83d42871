"""The status of a worker: retained JSON on its own topic, for operators, dashboards and `doctor`. Pure.

Law: a status of this or a later release is read; anything else is a StatusError.
"""

import dataclasses
import json
import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, cast


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
    max_context: int = 0  # the longest sequence accepted, in tokens; 0: unknown

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
            max_context=int(given.get("max_context", 0)),
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
