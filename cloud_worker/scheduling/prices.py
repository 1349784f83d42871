"""What a task will probably cost, learned from the passes so far. Pure.

A forward pass costs a fixed time and more for each position. Judging costs a time per row that depends on
the sampling that a device has chosen. Law: a wrong guess makes a pass too long or too short, never a text
wrong.
"""

from collections import OrderedDict

SMOOTHING = 1 / 16
FORGETTING = 1 - 1 / 64  # per pass, of the line through positions and times
MAX_DEVICES = 4096


class Prices:
    """The time of a pass as a line over its positions, and the time per row of each device, in seconds."""

    def __init__(self, guess: float = 0.0, max_devices: int = MAX_DEVICES) -> None:
        """`guess` is the time of a position, and that of a row, until the first pass has been timed."""
        self._guess = guess
        self._max_devices = max_devices
        self._rows: OrderedDict[str, float] = OrderedDict()
        self._row: float | None = None  # the mean over all devices
        self._weight = self._x = self._y = self._xx = self._xy = 0.0

    def observe_pass(self, num_positions: int, seconds: float) -> None:
        """A forward pass over so many positions took so long."""
        sums = (self._weight, self._x, self._y, self._xx, self._xy)
        new = (1.0, num_positions, seconds, num_positions * num_positions, num_positions * seconds)
        self._weight, self._x, self._y, self._xx, self._xy = (
            FORGETTING * before + one for before, one in zip(sums, new, strict=True)
        )

    def observe_rows(self, device: str, num_rows: int, seconds: float) -> None:
        """Judging so many rows of a device took so long."""
        if num_rows < 1:
            return
        one = seconds / num_rows
        self._row = one if self._row is None else self._row + SMOOTHING * (one - self._row)
        before = self._rows.pop(device, one)
        self._rows[device] = max(one, before + 4 * SMOOTHING * (one - before))
        if len(self._rows) > self._max_devices:
            self._rows.popitem(last=False)

    @property
    def position(self) -> float:
        """Seconds for one more position in a pass; half of the mean pass where all had the same size."""
        if not self._weight:
            return self._guess
        mean = self._x / self._weight
        variance = self._xx / self._weight - mean * mean
        if variance < 0.01 * mean * mean or variance <= 0.0:
            return self._y / self._weight / max(1.0, mean) / 2
        slope = (self._xy / self._weight - mean * self._y / self._weight) / variance
        return max(0.0, slope)

    @property
    def fixed(self) -> float:
        """Seconds that a pass takes regardless of its size."""
        if not self._weight:
            return 0.0
        return max(0.0, (self._y - self.position * self._x) / self._weight)

    def row(self, device: str) -> float:
        """Seconds for judging one row of a device."""
        return self._rows.get(device, self._guess if self._row is None else self._row)
