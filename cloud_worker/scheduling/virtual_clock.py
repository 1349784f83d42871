"""In which order devices are served: start-time fair queueing on what each has really cost. Pure.

Law 5: while several devices have work waiting, each gets the same time of the worker, however much one of its
tasks costs. The clock stands where the first of the waiting devices starts. A device starts there, or at the
end of what it was already served, if that lies ahead. So one that was idle has no credit, and none waits for
ever. The table is bounded: it holds the devices charged most recently.
"""

from collections import OrderedDict

MAX_DEVICES = 4096


class VirtualClock:
    """Tags of devices, in seconds of the worker's time."""

    def __init__(self, max_devices: int = MAX_DEVICES) -> None:
        self._max_devices = max_devices
        self._now = 0.0
        self._ends: OrderedDict[str, float] = OrderedDict()  # what each was served ends here

    def __len__(self) -> int:
        return len(self._ends)

    def start(self, device: str) -> float:
        """Where the next task of a device starts; the smallest comes first."""
        return max(self._now, self._ends.get(device, 0.0))

    def go_to(self, start: float) -> None:
        """The first of all devices that wait starts here."""
        self._now = max(self._now, start)

    def charge(self, device: str, seconds: float) -> None:
        """A device has cost this much."""
        self._ends[device] = self.start(device) + seconds
        self._ends.move_to_end(device)
        if len(self._ends) > self._max_devices:
            self._ends.popitem(last=False)
