"""Which devices use more than their share of a resource: one bucket of seconds per device. Pure.

Law 5: the devices active in the last ACTIVE_SECONDS share the resource, and what one of them uses beyond its
share is owed. A debt shrinks by the share and is never negative, so silence saves nothing up. It is bounded,
and so is the table: a device that has stopped is free again soon. To owe something is no fault. It is held
against a device only for the sake of one that owes nothing.
"""

from collections import OrderedDict
from dataclasses import dataclass

ACTIVE_SECONDS = 2.0
MAX_DEBT = 0.5  # seconds on the shared clock
MAX_DEVICES = 4096


@dataclass(slots=True)
class _Account:
    active_at: float
    paid_at: float = 0.0  # on the shared clock: the moment at which nothing is owed


class Allowances:
    """The accounts of all active devices; they share `share` seconds of each second evenly."""

    def __init__(self, share: float, max_devices: int = MAX_DEVICES) -> None:
        self._share = share
        self._max_devices = max_devices
        self._accounts: OrderedDict[str, _Account] = OrderedDict()  # active least recently first
        self._clock = 0.0  # seconds that each active device was allowed so far
        self._at = 0.0

    @property
    def num_active(self) -> int:
        """How many devices share the resource."""
        return max(1, len(self._accounts))

    def hear(self, device: str, now: float) -> None:
        """A device has sent something."""
        self._advance(now)
        account = self._accounts.pop(device, None) or _Account(self._at)
        account.active_at = self._at
        self._accounts[device] = account
        if len(self._accounts) > self._max_devices:
            self._accounts.popitem(last=False)

    def charge(self, device: str, seconds: float, now: float) -> None:
        """A device has used this much; one that is served without sending is active, too."""
        self.hear(device, now)
        account = self._accounts[device]
        account.paid_at = min(max(account.paid_at, self._clock) + seconds, self._clock + MAX_DEBT)

    def debt(self, device: str) -> float:
        """The seconds that a device has used beyond its share."""
        account = self._accounts.get(device)
        return max(0.0, account.paid_at - self._clock) if account is not None else 0.0

    def _advance(self, now: float) -> None:
        elapsed, self._at = max(0.0, now - self._at), max(self._at, now)
        self._clock += min(elapsed, ACTIVE_SECONDS) * self._share / self.num_active
        while self._accounts and self._at - next(iter(self._accounts.values())).active_at > ACTIVE_SECONDS:
            self._accounts.popitem(last=False)
