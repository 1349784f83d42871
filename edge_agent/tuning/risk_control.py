"""Keeps the measured risk at a target by moving the threshold. Pure.

Law: within a generation the threshold is fixed, so the text is still a function of prompt, seed, models and
threshold. What a generation measures moves the threshold of later ones only.

Risk is drift per token: the sum of max(0, 1 - y_d / q_d) over the skipped tokens, divided by all tokens of
the text (docs/method.md, section 3).
"""

import math
import sys
from collections.abc import Iterable
from dataclasses import dataclass

from edge_agent.tuning.calibration import OperatingPoint

SMALLEST = sys.float_info.min  # smaller numbers count as 0: ratios to them overflow
DEFAULT_RISK = 0.01  # drift per token that is kept to where no other is asked for
PATIENCE = 2.0  # tokens fully lost beyond the allowance that divide the budget by e


@dataclass(frozen=True, slots=True)
class RiskCurve:
    """The expected risk of a threshold; `points` (threshold, risk) ascend in both, with risks above 0."""

    points: tuple[tuple[float, float], ...]

    @classmethod
    def measured(cls, operating_points: Iterable[OperatingPoint]) -> "RiskCurve | None":
        """The curve of a calibration; None if skipping never risked anything, so that nothing is known."""
        points: list[tuple[float, float]] = []
        for each in operating_points:
            if each.risk > (points[-1][1] if points else SMALLEST):
                points.append((each.threshold, each.risk))
        return cls(tuple(points)) if points else None

    @classmethod
    def guessed(cls, threshold: float, risk: float) -> "RiskCurve":
        """The curve without a calibration: a straight line from 0 through one point."""
        return cls(((threshold, risk),))

    def threshold(self, budget: float) -> float:
        """The threshold whose expected risk is `budget`; 1 above the last point.

        Interpolation is logarithmic in both between points, and linear to 0 below the first one, or
        everywhere if there is only one. Below a first point at threshold 0, every token must be verified: -1.
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

    `excess` is the loss beyond the allowance, in tokens fully lost: after N tokens the mean risk is
    epsilon + excess / N. The budget shrinks exponentially with it (the online update of Gibbs and Candes,
    arXiv 2106.00170, on a logarithmic scale), until hardly any token is skipped. So the excess is bounded,
    and the mean approaches epsilon as 1 / N, even if the curve is wrong. Credit is bounded by a budget of 1,
    which skips everything: if even that risks less than epsilon, the mean stays below it.
    """

    epsilon: float
    curve: RiskCurve
    excess: float = 0.0

    @property
    def budget(self) -> float:
        """The risk that the next generation should have according to the curve."""
        return self.epsilon * math.exp(-self.excess / PATIENCE)

    @property
    def threshold(self) -> float:
        """The threshold of the next generation."""
        return self.curve.threshold(self.budget)

    def observe(self, risk: float, num_tokens: int) -> None:
        """A generation of `num_tokens` had this measured risk."""
        most_credit = PATIENCE * math.log(self.epsilon)
        self.excess = max(most_credit, self.excess + (risk - self.epsilon) * num_tokens)
