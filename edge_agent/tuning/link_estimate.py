"""What asking the target model costs in time, learnt from the agent's own drafts. Pure.

Law: estimates decide what goes up and how much of it, never what is right; a generation is run with the
estimates that were known when it began, so they cannot move under it.

    seconds from draft to correction = round trip + bytes * seconds a byte + verification
"""

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass, field

SUMS = ("_weight", "_bytes", "_seconds", "_verification", "_bytes_squared", "_bytes_seconds")
FORGETTING = 0.98  # weight of everything before, at each draft: some fifty drafts are remembered
LEAST_SPREAD = 0.1  # of the drafts' bytes around their mean, relative: less tells nothing about the rate
MAX_PENDING = 64
MIN_DRAFTS = 4


@dataclass(frozen=True, slots=True)
class LinkTimes:
    """One moment's estimates, in seconds; `num_bytes` is the mean draft's payload."""

    round_trip: float  # of a message without bytes, verification left out
    seconds_per_byte: float
    verification: float
    num_bytes: float

    @property
    def asking(self) -> float:
        """tau_up + RTT + tau_verify of a mean draft."""
        return self.round_trip + self.seconds_per_byte * self.num_bytes + self.verification


@dataclass(slots=True)
class LinkEstimate:
    """Least squares of seconds over bytes, in which old drafts fade. Times are the caller's clock."""

    _pending: OrderedDict[Hashable, tuple[int, float]] = field(
        default_factory=OrderedDict[Hashable, tuple[int, float]]
    )
    _num_drafts: int = 0
    _weight: float = 0.0
    _bytes: float = 0.0
    _seconds: float = 0.0
    _verification: float = 0.0
    _bytes_squared: float = 0.0
    _bytes_seconds: float = 0.0

    def sent(self, key: Hashable, num_bytes: int, now: float) -> None:
        """A draft goes out; one that is sent again tells nothing (Karn's rule)."""
        if key in self._pending:
            del self._pending[key]
            return
        self._pending[key] = (num_bytes, now)
        if len(self._pending) > MAX_PENDING:
            self._pending.popitem(last=False)

    def answered(self, key: Hashable, verification: float, now: float) -> None:
        """Its correction has come; the worker says that it computed for `verification` seconds."""
        if key not in self._pending:
            return
        num_bytes, sent_at = self._pending.pop(key)
        self._add(num_bytes, max(0.0, now - sent_at - verification), verification)

    def _add(self, num_bytes: int, seconds: float, verification: float) -> None:
        self._num_drafts += 1
        values = (1.0, num_bytes, seconds, verification, num_bytes**2, num_bytes * seconds)
        for name, value in zip(SUMS, values, strict=True):
            setattr(self, name, FORGETTING * getattr(self, name) + value)

    def fade(self, weight: float) -> None:
        """Let all drafts so far count as `weight` drafts at most: they are old."""
        if self._weight > weight:
            scale = weight / self._weight
            for name in SUMS:
                setattr(self, name, scale * getattr(self, name))

    @property
    def times(self) -> LinkTimes | None:
        """What is known now; None before a few drafts have been answered."""
        if self._num_drafts < MIN_DRAFTS:
            return None
        num_bytes, seconds = self._bytes / self._weight, self._seconds / self._weight
        slope = min(self._slope(num_bytes, seconds), seconds / max(num_bytes, 1.0))
        return LinkTimes(seconds - slope * num_bytes, slope, self._verification / self._weight, num_bytes)

    def _slope(self, num_bytes: float, seconds: float) -> float:
        spread = self._bytes_squared / self._weight - num_bytes**2
        if spread < (LEAST_SPREAD * num_bytes) ** 2:
            return 0.0
        return max(0.0, (self._bytes_seconds / self._weight - num_bytes * seconds) / spread)
