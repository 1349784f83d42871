"""Who is served next: devices take turns, and so do the sessions of each. Pure.

Law 5: a device with sixteen waiting sessions gets no more turns than a device with one, while both wait.
"""

from collections import OrderedDict
from typing import NamedTuple


class SessionKey(NamedTuple):
    """Whose session it is; the device's name comes from the topic, which the broker guards."""

    device: str
    session: str


class FairQueue:
    """Sessions that wait, each once: a ring of devices, in each its sessions, longest waiting first."""

    def __init__(self) -> None:
        self._devices: OrderedDict[str, OrderedDict[SessionKey, None]] = OrderedDict()
        self._num_waiting = 0

    def __len__(self) -> int:
        return self._num_waiting

    def add(self, key: SessionKey) -> None:
        """Let a session wait behind its device's others; nothing happens when it waits already."""
        waiting = self._devices.setdefault(key.device, OrderedDict())
        self._num_waiting += key not in waiting
        waiting[key] = None

    def add_first(self, key: SessionKey) -> None:
        """The same before its device's others; the devices keep their turns."""
        self.add(key)
        self._devices[key.device].move_to_end(key, last=False)

    def take(self) -> SessionKey:
        """The next session, which waits no more; its device goes to the end of the ring."""
        device, waiting = self._devices.popitem(last=False)
        key, _ = waiting.popitem(last=False)
        self._num_waiting -= 1
        if waiting:
            self._devices[device] = waiting
        return key

    def remove(self, key: SessionKey) -> None:
        """A session waits no more; nothing happens when it does not wait."""
        waiting = self._devices.get(key.device, {})
        if key in waiting:
            del waiting[key]
            self._num_waiting -= 1
            if not waiting:
                del self._devices[key.device]
