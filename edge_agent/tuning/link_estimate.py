"""What asking the target model costs in time, learnt from the agent's own drafts. Pure.

Law: estimates decide what goes up and how much of it, never which token is right. A generation uses the
estimates that were known when it began, so they do not change during it.

    seconds from draft to correction = round trip + bytes * seconds per byte + verification
"""

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass, field

FORGETTING = 0.98  # weight of all earlier drafts, at each draft: about fifty are remembered
LEAST_SPREAD = 0.1  # of the drafts' bytes around their mean, relative: a smaller one cannot show the rate
MAX_PENDING = 64
MIN_DRAFTS = 4


@dataclass(frozen=True, slots=True)
class LinkTimes:
    """One moment's estimates, in seconds; `num_bytes` is the mean draft's payload."""

    round_trip: float  # of a message without bytes, verification excluded
    seconds_per_byte: float
    verification: float
    num_bytes: float

    @property
    def asking(self) -> float:
        """tau_up + RTT + tau_verify of a mean draft."""
        return self.round_trip + self.seconds_per_byte * self.num_bytes + self.verification


@dataclass(slots=True)
class _Sums:
    """Sums over drafts in which old ones fade; `weight` is the sum of ones."""

    weight: float = 0.0
    bytes: float = 0.0
    seconds: float = 0.0
    verification: float = 0.0
    bytes_squared: float = 0.0
    bytes_seconds: float = 0.0

    def scale(self, factor: float) -> None:
        """Let every draft so far count `factor` times as much."""
        self.weight *= factor
        self.bytes *= factor
        self.seconds *= factor
        self.verification *= factor
        self.bytes_squared *= factor
        self.bytes_seconds *= factor

    def add(self, num_bytes: int, seconds: float, verification: float) -> None:
        """Count one more draft."""
        self.weight += 1.0
        self.bytes += num_bytes
        self.seconds += seconds
        self.verification += verification
        self.bytes_squared += num_bytes**2
        self.bytes_seconds += num_bytes * seconds


@dataclass(slots=True)
class LinkEstimate:
    """Least squares of seconds over bytes, in which old drafts fade. Times are the caller's clock."""

    _pending: OrderedDict[Hashable, tuple[int, float]] = field(
        default_factory=OrderedDict[Hashable, tuple[int, float]]
    )
    _num_drafts: int = 0
    _sums: _Sums = field(default_factory=_Sums)

    def sent(self, key: Hashable, num_bytes: int, now: float) -> None:
        """A draft goes out. One that is sent again measures nothing (Karn's rule)."""
        if key in self._pending:
            del self._pending[key]
            return
        self._pending[key] = (num_bytes, now)
        if len(self._pending) > MAX_PENDING:
            self._pending.popitem(last=False)

    def answered(self, key: Hashable, verification: float, now: float) -> None:
        """Its correction has arrived; the worker reports that it computed for `verification` seconds."""
        if key not in self._pending:
            return
        num_bytes, sent_at = self._pending.pop(key)
        verification = min(verification, now - sent_at)  # a worker may claim more
        self._num_drafts += 1
        self._sums.scale(FORGETTING)
        self._sums.add(num_bytes, max(0.0, now - sent_at - verification), verification)

    def fade(self, weight: float) -> None:
        """Let all drafts so far, which are old, count as at most `weight` drafts."""
        if self._sums.weight > weight:
            self._sums.scale(weight / self._sums.weight)

    @property
    def times(self) -> LinkTimes | None:
        """The estimates now; None before `MIN_DRAFTS` drafts have been answered."""
        if self._num_drafts < MIN_DRAFTS:
            return None
        sums = self._sums
        num_bytes, seconds = sums.bytes / sums.weight, sums.seconds / sums.weight
        slope = min(self._slope(num_bytes, seconds), seconds / max(num_bytes, 1.0))
        return LinkTimes(seconds - slope * num_bytes, slope, sums.verification / sums.weight, num_bytes)

    def _slope(self, num_bytes: float, seconds: float) -> float:
        """Seconds per byte of the fitted line, given the means; 0 where the drafts are too alike."""
        spread = self._sums.bytes_squared / self._sums.weight - num_bytes**2
        if spread < (LEAST_SPREAD * num_bytes) ** 2:
            return 0.0
        return max(0.0, (self._sums.bytes_seconds / self._sums.weight - num_bytes * seconds) / spread)
