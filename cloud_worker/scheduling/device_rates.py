"""How many messages a device may send: one token bucket per device. Pure: time is an argument.

Law 5: a flood costs its sender only. It is noticed before anything is decoded, and it never causes a flood of
answers: one in RETRY_AFTER seconds, silence in between. A message that takes long to read counts as several.
The table is bounded too: the device heard least recently leaves it, and starts over with a full bucket.
"""

from collections import OrderedDict
from dataclasses import dataclass
from enum import Enum, auto

BURST_SECONDS = 2.0  # a full bucket holds the messages of this many seconds
RETRY_AFTER = 1.0  # seconds between two answers to a device over its rate
BYTES_PER_MESSAGE = 64 * 1024  # a longer message counts as several
SECONDS_PER_MESSAGE = 1e-3  # of processor time for reading; a message that takes longer counts as several
MAX_DEVICES = 4096


class Admission(Enum):
    """What to do with a message."""

    TAKE = auto()
    REFUSE = auto()  # answer `busy`
    DROP = auto()  # the device was answered a moment ago


@dataclass(slots=True)
class _Bucket:
    level: float  # messages that may arrive at once
    filled_at: float
    answered_at: float = float("-inf")


class DeviceRates:
    """The buckets of all devices, least recently heard first; `rate`: messages per second, 0 drops none."""

    def __init__(self, rate: float, max_devices: int = MAX_DEVICES) -> None:
        self._rate = rate
        self._size = max(1.0, rate * BURST_SECONDS)
        self._max_devices = max_devices
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def admit(self, device: str, num_bytes: int, now: float, *, is_shed: bool = False) -> Admission:
        """Decide on a message of `num_bytes`; only a message that is taken lowers the bucket.

        `is_shed` means that the device is too fast for another reason than its rate.
        """
        if self._rate <= 0:
            return Admission.TAKE
        bucket = self._bucket(device, now)
        cost = min(1 + num_bytes // BYTES_PER_MESSAGE, self._size)
        if bucket.level >= cost and not is_shed:
            bucket.level -= cost
            return Admission.TAKE
        if now - bucket.answered_at < RETRY_AFTER:
            return Admission.DROP
        bucket.answered_at = now
        return Admission.REFUSE

    def charge(self, device: str, seconds: float) -> None:
        """Charge the processor time that a message took, as far as it exceeds one message's share."""
        bucket = self._buckets.get(device)
        if bucket is not None:
            bucket.level = max(-self._size, bucket.level - seconds // SECONDS_PER_MESSAGE)

    def _bucket(self, device: str, now: float) -> _Bucket:
        """The device's bucket, refilled up to `now` and marked as most recently heard."""
        bucket = self._buckets.setdefault(device, _Bucket(self._size, now))
        self._buckets.move_to_end(device)
        if len(self._buckets) > self._max_devices:
            self._buckets.popitem(last=False)
        bucket.level = min(self._size, bucket.level + self._rate * (now - bucket.filled_at))
        bucket.filled_at = now
        return bucket
