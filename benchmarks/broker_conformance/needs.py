"""What this project needs of a broker, and what is missing without it. Pure values."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from common.link.settings import LinkSettings


class Weight(StrEnum):
    """How much depends on a need."""

    MUST = "must"  # agents and workers do not work, or not safely, without it
    HELPS = "helps"  # something takes longer, or is missing; texts are the same
    APPS = "apps"  # only apps over MQTT and Home Assistant use it


@dataclass(frozen=True, slots=True)
class Broker:
    """Where to try, and below which topic: one that all clients may use."""

    settings: LinkSettings
    root: str


@dataclass(frozen=True, slots=True)
class Finding:
    """Whether the broker does it, and what was measured or seen; `met` is None for a plain figure."""

    met: bool | None
    detail: str = ""

    def __str__(self) -> str:
        words = {True: "yes", False: "no", None: ""}[self.met]
        return ", ".join(filter(None, (words, self.detail)))


@dataclass(frozen=True, slots=True)
class Need:
    """One thing that is needed; `without` is what happens on a broker that lacks it."""

    name: str
    weight: Weight
    without: str
    attempt: Callable[[Broker], Finding]
