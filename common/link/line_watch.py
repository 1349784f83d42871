"""Whether the line to the broker is dead, from what was sent and what arrived. Pure.

TCP alone finds out after minutes, and repeats what was lost at intervals that double, so a line that is well
again after twelve seconds stays unused for as long again. Law: a line counts as dead only when something was
sent, a ping among it, and for `PATIENCE` seconds nothing arrived and nothing sent was acknowledged. A slow
line makes progress, so it is never taken for a dead one. Times are in seconds on the caller's clock.
"""

from dataclasses import dataclass
from enum import Enum, auto

QUIET = 2.0  # without any sign of the broker after something was sent: ask for one
PATIENCE = 4.0  # after the ping
SLOWEST = 4000.0  # bytes per second: what was sent may take so long, in buffers on the way
STALL = 2.0  # between two looks: then this process was stopped, not the line


class Look(Enum):
    """What to do."""

    NOTHING = auto()
    PING = auto()
    HANG_UP = auto()


@dataclass(slots=True)
class LineWatch:
    """The line of one connection; call `look` about once a second."""

    keepalive: float
    heard_at: float  # of the last byte that arrived
    sent_at: float | None = None  # of the first packet that was sent since then
    num_sent: int = 0  # bytes since then
    pinged_at: float | None = None
    _looked_at: float = 0.0
    _num_unacknowledged: int = 0
    _moved_at: float = 0.0

    def __post_init__(self) -> None:
        self._looked_at = self._moved_at = self.heard_at

    def heard(self, now: float) -> None:
        """Bytes have arrived."""
        self.heard_at, self.sent_at, self.pinged_at, self.num_sent = now, None, None, 0

    def sent(self, now: float, num_bytes: int) -> None:
        """A packet is on its way."""
        self.num_sent += num_bytes
        if self.sent_at is None:
            self.sent_at = now

    def look(self, now: float, num_unacknowledged: int) -> Look:
        """Judge the line; `num_unacknowledged` bytes were written and not yet acknowledged by TCP."""
        if now - self._looked_at > STALL:
            self._moved_at = now
        if num_unacknowledged < self._num_unacknowledged:
            self._moved_at = now
        self._looked_at, self._num_unacknowledged = now, num_unacknowledged
        if self.pinged_at is not None:
            silent = now - max(self.pinged_at, self._moved_at)
            return Look.HANG_UP if silent >= PATIENCE + self.num_sent / SLOWEST else Look.NOTHING
        since, wait = (self.sent_at, QUIET) if self.sent_at is not None else (self.heard_at, self.keepalive)
        if now - max(since, self._moved_at if self.sent_at is not None else since) < wait:
            return Look.NOTHING
        self.pinged_at = now
        return Look.PING
