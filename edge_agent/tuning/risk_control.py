"""Risk that stays where it is wanted: the threshold follows the risk that was measured. Pure.

Law: within a generation the threshold is fixed, so the text is still a function of prompt, seed, models and
threshold; what was measured moves the threshold of the generations after it.

Risk is drift a token: the sum of max(0, 1 - y_d / q_d) over the skipped tokens, divided by all tokens of the
text (docs/method.md, section 3).
"""

import math
import sys
from collections.abc import Iterable
from dataclasses import dataclass

from edge_agent.tuning.calibration import OperatingPoint

SMALLEST = sys.float_info.min  # what is smaller counts as 0: ratios to it overflow
PATIENCE = 2.0  # tokens lost in full beyond the allowance that divide the budget by e


@dataclass(frozen=True, slots=True)
class RiskCurve:
    """Where a threshold's risk is expected; `points` (threshold, risk) ascend in both, risks above 0."""

    points: tuple[tuple[float, float], ...]

    @classmethod
    def measured(cls, operating_points: Iterable[OperatingPoint]) -> "RiskCurve | None":
        """Of a calibration; None where skipping never risked anything, so nothing is known."""
        points: list[tuple[float, float]] = []
        for each in operating_points:
            if each.risk > (points[-1][1] if points else SMALLEST):
                points.append((each.threshold, each.risk))
        return cls(tuple(points)) if points else None

    @classmethod
    def guessed(cls, threshold: float, risk: float) -> "RiskCurve":
        """Without a calibration: a straight line from 0 through one point."""
        return cls(((threshold, risk),))

    def threshold(self, budget: float) -> float:
        """The threshold whose expected risk is `budget`, at most 1, which it is above the last point.

        Between points both run on logarithmic scales, below the first on a straight line to 0, as everywhere
        when it is the only one. Below a first point that is at threshold 0 every token must be verified: -1.
        """
        first, last = self.points[0], self.points[-1]
        if budget < first[1] or len(self.points) == 1:
            return min(1.0, first[0] * budget / first[1]) if first[0] > 0 else -1.0
        if budget >= last[1]:
            return 1.0
        upper = next(index for index, (_, risk) in enumerate(self.points) if risk > budget)
        (low, low_risk), (high, high_risk) = self.points[upper - 1 : upper + 1]
        share = math.log(budget / low_risk) / math.log(high_risk / low_risk)
        return low * (high / low) ** share if low > SMALLEST else high * share


@dataclass(slots=True)
class RiskControl:
    """Keeps the measured risk at `epsilon` in the long run.

    `excess` counts what was lost beyond the allowance, in tokens lost in full: after N tokens the mean risk
    is epsilon + excess / N. The budget shrinks exponentially with it (the online update of Gibbs and Candes,
    arXiv 2106.00170, on a logarithmic scale), until hardly a token is skipped: so the excess is bounded,
    and the mean comes to epsilon as 1 / N whatever the curve says. Credit is bounded by a budget of 1, which
    skips everything: where even that risks less than epsilon, the mean stays below it.
    """

    epsilon: float
    curve: RiskCurve
    excess: float = 0.0

    @property
    def budget(self) -> float:
        """The risk that the next generation is to have by the curve."""
        return self.epsilon * math.exp(-self.excess / PATIENCE)

    @property
    def threshold(self) -> float:
        """For the next generation."""
        return self.curve.threshold(self.budget)

    def observe(self, risk: float, num_tokens: int) -> None:
        """A generation of `num_tokens` had this measured risk."""
        most_credit = PATIENCE * math.log(self.epsilon)
        self.excess = max(most_credit, self.excess + (risk - self.epsilon) * num_tokens)
