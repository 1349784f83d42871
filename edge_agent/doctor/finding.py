"""One finding of `doctor`: how well something is, and what to do about it. Pure."""

from dataclasses import dataclass
from enum import StrEnum

from edge_agent.device.readings import MIB


class Level(StrEnum):
    """How well something is."""

    OK = "ok"
    WARNING = "warn"
    FAILURE = "FAIL"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the screen, and the advice below it."""

    subject: str
    level: Level
    text: str
    advice: str | None = None


def ok(subject: str, text: str) -> Finding:
    """Nothing to do."""
    return Finding(subject, Level.OK, text)


def warn(subject: str, text: str, advice: str) -> Finding:
    """The agent answers, but not as well as it could."""
    return Finding(subject, Level.WARNING, text, advice)


def fail(subject: str, text: str, advice: str) -> Finding:
    """The agent cannot answer."""
    return Finding(subject, Level.FAILURE, text, advice)


def mib(num_bytes: int) -> str:
    """Bytes for people."""
    return f"{num_bytes / MIB:,.0f} MiB"
