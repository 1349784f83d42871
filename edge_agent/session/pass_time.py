"""How long the worker's pass takes, learnt from its answers: a line over the positions that it reads. Pure.

Law: an estimate decides when drafts go up, never which token is right. A pass over many positions costs a
CPU much more than one over few, and a GPU hardly more.
"""

from dataclasses import dataclass

FORGETTING = 0.9  # weight of all earlier passes, at each pass: about ten are remembered
REMEMBERED = 2.0  # passes that those of an earlier text count for
STIFFNESS = 4.0  # positions squared: with passes of nearly equal size the slope stays where it was


@dataclass(slots=True)
class PassTime:
    """Seconds of a pass over n positions: least squares in which old passes fade.

    `expected_slope`, in seconds per position, holds as far as the passes do not differ in size.
    """

    expected_slope: float = 0.0
    weight: float = 0.0
    seconds: float = 0.0  # of the mean pass
    positions: float = 0.0  # of the mean pass
    squared: float = 0.0  # mean of positions squared
    product: float = 0.0  # mean of seconds times positions

    def observe(self, seconds: float, num_positions: int) -> None:
        """Take in one pass, and how many positions it read for this device."""
        self.weight = FORGETTING * self.weight + 1.0
        share = 1.0 / self.weight
        self.seconds += share * (seconds - self.seconds)
        self.positions += share * (num_positions - self.positions)
        self.squared += share * (num_positions**2 - self.squared)
        self.product += share * (num_positions * seconds - self.product)

    @property
    def is_known(self) -> bool:
        """Whether two passes have been seen: the first alone read the prompt, and shows nothing of others."""
        return self.weight > 1.0

    @property
    def slope(self) -> float:
        """Seconds per position."""
        spread = max(0.0, self.squared - self.positions**2)
        joint = self.product - self.positions * self.seconds
        slope = (joint + STIFFNESS * self.expected_slope) / (spread + STIFFNESS)
        return min(max(0.0, slope), self.seconds / max(1.0, self.positions))

    @property
    def base(self) -> float:
        """Seconds of a pass over no position."""
        return max(0.0, self.seconds - self.slope * self.positions)

    def remembered(self) -> "PassTime":
        """What the next text begins with: the same line, as if from few passes, all of the mean size."""
        weight = min(self.weight, REMEMBERED)
        product = self.positions * self.seconds
        return PassTime(self.slope, weight, self.seconds, self.positions, self.positions**2, product)
