"""What those who watch a service learn."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from edge_agent.service.answer import Answer


@dataclass(frozen=True, slots=True)
class Taken:
    """An ask was taken."""

    answer: "Answer"


@dataclass(frozen=True, slots=True)
class Ended:
    """An answer is complete, was cancelled or has failed; it has a report."""

    answer: "Answer"


@dataclass(frozen=True, slots=True)
class Refused:
    """An ask was not taken, and why in one line."""

    way: str
    reason: str


@dataclass(frozen=True, slots=True)
class Cloud:
    """The cloud can be reached, or no longer can."""

    reached: bool


@dataclass(frozen=True, slots=True)
class Changed:
    """The settings of asks that bring none of their own have changed."""


@dataclass(frozen=True, slots=True)
class Closing:
    """The service takes no more asks: it ends."""


Notice: TypeAlias = Taken | Ended | Refused | Cloud | Changed | Closing
