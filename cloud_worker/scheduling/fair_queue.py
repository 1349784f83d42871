"""The sessions that wait: devices take turns, and so do the sessions of each device. Pure.

Law 5: a device with sixteen waiting sessions gets no more turns than a device with one, while both wait. What
their tasks have cost decides first (`turns`).
"""

from collections import OrderedDict
from typing import NamedTuple


class SessionKey(NamedTuple):
    """A session and its device, whose name comes from the topic: the broker guards it."""

    device: str
    session: str


class FairQueue:
    """Waiting sessions, each once: a ring of devices, each with its sessions, longest waiting first."""

    def __init__(self) -> None:
        self._devices: OrderedDict[str, OrderedDict[SessionKey, None]] = OrderedDict()
        self._num_waiting = 0

    def __len__(self) -> int:
        return self._num_waiting

    def num_before(self, device: str) -> int:
        """How many waiting sessions are served before a further one of this device."""
        own = self.num_waiting(device)
        return sum(min(len(waiting), own + 1) for waiting in self._devices.values())

    def most_waiting(self) -> int:
        """How many sessions the device with the most of them has waiting."""
        return max(map(len, self._devices.values()), default=0)

    def num_waiting(self, device: str) -> int:
        """How many sessions of a device are waiting."""
        return len(self._devices.get(device, {}))

    def add(self, key: SessionKey) -> None:
        """Add a session after its device's others; does nothing if it is waiting already."""
        waiting = self._devices.setdefault(key.device, OrderedDict())
        self._num_waiting += key not in waiting
        waiting[key] = None

    def add_first(self, key: SessionKey) -> None:
        """Add a session before its device's others; the order of devices stays."""
        self.add(key)
        self._devices[key.device].move_to_end(key, last=False)

    @property
    def devices(self) -> list[str]:
        """The devices with waiting sessions, in the order of the ring."""
        return list(self._devices)

    def take(self) -> SessionKey:
        """Remove and return the next session; its device goes to the end of the ring."""
        return self.take_from(next(iter(self._devices)))

    def take_from(self, device: str) -> SessionKey:
        """Remove and return the next session of a device, which goes to the end of the ring."""
        waiting = self._devices.pop(device)
        key, _ = waiting.popitem(last=False)
        self._num_waiting -= 1
        if waiting:
            self._devices[device] = waiting
        return key

    def remove(self, key: SessionKey) -> None:
        """Remove a session; does nothing if it is not waiting."""
        waiting = self._devices.get(key.device, {})
        if key in waiting:
            del waiting[key]
            self._num_waiting -= 1
            if not waiting:
                del self._devices[key.device]
