"""What can happen to a session: the draft model returns, a worker answers, the link changes. Pure values."""

from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias

from common.protocol.messages import ToDevice
from edge_agent.errors import AgentError
from edge_agent.policy.policy import ForcedRun, Proposal


class LinkEvent(Enum):
    """What the link reports besides messages."""

    NO_WORKER = "no worker listens on the pool's open topic"
    FORBIDDEN = "the broker does not let this device publish to the pool; check its access rights"
    BUSY = "the broker takes no more messages for now"
    INVALID = "the broker takes no drafts on the pool's open topic; check `root` and `pool`"
    DOWN = "the connection to the broker is lost"
    UP = "the broker can be reached"


@dataclass(frozen=True, slots=True)
class Drafted:
    """The draft model's answer to the draft that was begun last, after `seconds`."""

    proposal: Proposal | ForcedRun
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class DraftFailed:
    """The draft model could not continue the draft that was begun last."""

    error: AgentError


@dataclass(frozen=True, slots=True)
class Connecting:
    """The link has been trying to get its first connection since `since`; `UP` ends that."""

    since: float


Event: TypeAlias = Drafted | DraftFailed | Connecting | LinkEvent | ToDevice
