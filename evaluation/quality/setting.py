"""A scheme with all its numbers. Pure values."""

from dataclasses import dataclass
from typing import Self

from edge_agent.policy.rejection_fit import PUBLISHED_FIT, Fit
from edge_agent.policy.schemes import SCHEMES, Form, Gate

NUM_IDS = 32  # ids that a truncated distribution keeps, unless the papers or the calibration have a k*
REFERENCE = "llm"  # the target model alone
MEAN, VOTE = "perturbation-mean", "perturbation-vote"
GREEDY, SAMPLED = "greedy", "sampled"
CURVE = "more thresholds"  # the choice of settings that are on the curves only

U_HLM_FIT = Fit(0.82, -0.06)  # as published; PUBLISHED_FIT is CU-HLM's
PUBLISHED_K = 30


@dataclass(frozen=True, slots=True)
class Setting:
    """A scheme with its numbers; `choice` names their origin.

    The line `slope` and `intercept` predicts rejections: for the papers' risk bound, and for CU-HLM online.
    """

    sampling: str
    scheme: str
    choice: str
    threshold: float
    max_ids: int = NUM_IDS
    estimator: str = MEAN
    uplink_probability: float = 0.5
    slope: float = PUBLISHED_FIT.slope
    intercept: float = PUBLISHED_FIT.intercept

    @property
    def key(self) -> str:
        """What the text and its figures depend on, apart from prompt and seed."""
        return (
            f"{self.sampling} {self.scheme} {self.threshold} {self.max_ids} {self.estimator} "
            f"{self.uplink_probability} {self.fit}"
        )

    @property
    def fit(self) -> Fit:
        """The line from uncertainty to rejection."""
        return Fit(self.slope, self.intercept)

    @property
    def family(self) -> str:
        """The curve that a setting belongs to: all but the threshold."""
        scheme = SCHEMES[self.scheme]
        if scheme.form is Form.TOP_K and not scheme.adaptive_k:
            return f"{self.scheme}, k = {self.max_ids}" + (", 20 votes" if self.estimator == VOTE else "")
        return self.scheme + (", 20 votes" if self.estimator == VOTE else "")

    @property
    def has_threshold(self) -> bool:
        """Whether a threshold decides what goes up."""
        return SCHEMES[self.scheme].gate is Gate.UNCERTAIN

    @classmethod
    def papers(cls, sampling: str, scheme: str, choice: str, threshold: float) -> Self:
        """Return a scheme of the papers as published, at one threshold."""
        fit = U_HLM_FIT if scheme == "u-hlm" else PUBLISHED_FIT
        return cls(
            sampling, scheme, choice, threshold, PUBLISHED_K, VOTE, slope=fit.slope, intercept=fit.intercept
        )
