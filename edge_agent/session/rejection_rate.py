"""How likely a draft token is to be rejected, from its uncertainty and from what this text has shown. Pure.

The line from uncertainty to rejection holds for a pair of models on average. A text may be twice as hard, or
far easier; the rejections seen in it say so.
"""

from dataclasses import dataclass

from edge_agent.policy.rejection_fit import PUBLISHED_FIT, Fit

LEAST_RISK = 0.003  # of a token that looks certain
PRIOR_REJECTIONS = 1.0  # how many rejections, seen and expected, the line counts for
PRIOR_TESTED = 8.0  # how many tested tokens an earlier text's rate counts for
DEFAULT_RATE = 0.2  # of a device that has not seen any
LEAST_RATE = 0.002


@dataclass(slots=True)
class RejectionRate:
    """`rate` of tested tokens, and `risk` of a token with an uncertainty."""

    fit: Fit = PUBLISHED_FIT
    prior: float = DEFAULT_RATE
    num_tested: int = 0
    num_rejected: int = 0
    num_expected: float = 0.0  # rejections that the line predicted among the tested

    def tested(self, line_risk: float, num_tested: int, *, is_rejected: bool) -> None:
        """Take in a verdict on `num_tested` tokens, for which the line predicted `line_risk` rejections."""
        self.num_tested += num_tested
        self.num_rejected += is_rejected
        self.num_expected += line_risk

    def line_risk(self, uncertainty: float) -> float:
        """The rejection that the line predicts for a token."""
        return LEAST_RISK + self.fit.rejection(uncertainty)

    @property
    def hardness(self) -> float:
        """How many times more rejections this text has than the line predicts."""
        return (self.num_rejected + PRIOR_REJECTIONS) / (self.num_expected + PRIOR_REJECTIONS)

    @property
    def rate(self) -> float:
        """The share of tested tokens that are rejected."""
        rate = (self.num_rejected + PRIOR_TESTED * self.prior) / (self.num_tested + PRIOR_TESTED)
        return max(LEAST_RATE, rate)
