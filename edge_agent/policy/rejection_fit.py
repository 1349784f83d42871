"""The papers' line from uncertainty to the probability of a rejection. Pure.

beta ~ slope * u + intercept, least squares (arXiv 2412.12687). A calibration measures it for one pair of
models; without a calibration, the line published for CU-HLM's pair is used.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Fit:
    """The line's two numbers."""

    slope: float
    intercept: float

    def rejection(self, uncertainty: float) -> float:
        """The expected rejection probability at an uncertainty, within [0, 1]."""
        return min(1.0, max(0.0, self.slope * uncertainty + self.intercept))

    def uncertainty_at(self, rejection: float) -> float:
        """The largest uncertainty up to which no more than `rejection` is expected, within [0, 1]."""
        if self.slope <= 0.0:  # uncertainty does not predict rejection: all or none
            return 1.0 if self.intercept <= rejection else 0.0
        return min(1.0, max(0.0, (rejection - self.intercept) / self.slope))

    @property
    def risk_averse(self) -> float:
        """The threshold up to which no rejection is expected: -b / a, within [0, 1]."""
        return self.uncertainty_at(0.0)


PUBLISHED_FIT = Fit(0.815, -0.066)  # CU-HLM's pair (arXiv 2505.11788)
