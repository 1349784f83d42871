"""A histogram in the form that monitoring systems expect. Pure."""

from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate


class Histogram:
    """How many values were at most each of `bounds`, and their sum; the last bucket holds larger ones."""

    def __init__(self, bounds: Sequence[float]) -> None:
        """`bounds` in ascending order."""
        self.bounds = tuple(bounds)
        self.sum = 0.0
        self._counts = [0] * (len(self.bounds) + 1)

    @property
    def num_values(self) -> int:
        """How many values have been added."""
        return sum(self._counts)

    def add(self, value: float) -> None:
        """Add one value."""
        self._counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    def cumulative(self) -> list[tuple[str, float]]:
        """For every bucket its upper bound and the number of values up to it; the last bound is "+Inf"."""
        names = [*(str(bound) for bound in self.bounds), "+Inf"]
        return list(zip(names, map(float, accumulate(self._counts)), strict=True))
