"""The settings to score: every scheme as published, at its default and at the pair's calibrated thresholds.

The papers' schemes come twice: *as published*, with the 20 votes, thresholds and k* of the papers; and
*calibrated*, with the noise-free uncertainty and the pair's own numbers. CURVE adds thresholds, so that
schemes can be compared where their drift is equal.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Self

from edge_agent.config import AgentConfig
from edge_agent.policy.rejection_fit import PUBLISHED_FIT, Fit
from edge_agent.policy.schemes import SCHEMES, Form, Gate
from edge_agent.tuning.calibration import Calibration

PAPERS = ("u-hlm", "cu-hlm-offline", "cu-hlm-online")
NUM_IDS = 32  # ids that a truncated distribution keeps, unless the papers or the calibration have a k*
REFERENCE = "llm"  # the target model alone
MEAN, VOTE = "perturbation-mean", "perturbation-vote"

U_HLM_FIT = Fit(0.82, -0.06)  # as published; PUBLISHED_FIT is CU-HLM's
PUBLISHED_K = 30
RISK_PRONE = {"u-hlm": 0.43, "cu-hlm-offline": 0.81, "cu-hlm-online": 0.81}  # as published
CURVE = "more thresholds"
CURVE_THRESHOLDS = (0.03, 0.2, 0.6)
CURVE_VOTES = (0.2, 0.65)  # between votes, which are multiples of 0.05
CURVE_RATES = (0.2, 0.03)
GREEDY, SAMPLED = "greedy", "sampled"


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

    def config(self, max_tokens: int) -> AgentConfig:
        """Return the agent's config; it sets the threshold, so the model's calibration file is not used."""
        return AgentConfig(
            scheme=self.scheme,
            threshold=self.threshold,
            temperature=0.0 if self.sampling == GREEDY else None,
            max_tokens=max_tokens,
            max_ids=self.max_ids,
            estimator=self.estimator,
            uplink_probability=self.uplink_probability,
        )

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


def settings(calibration: Calibration | None, budgets: Sequence[float], sampling: str) -> list[Setting]:
    """Return all settings except those of rand-hlm, which follow from uplink rates (`matched`)."""
    found: list[Setting] = []
    for name, scheme in SCHEMES.items():
        if name in PAPERS:
            found.append(Setting.papers(sampling, name, "risk-averse, published", scheme.threshold))
            found.append(Setting.papers(sampling, name, "risk-prone, published", RISK_PRONE[name]))
            found += _calibrated(name, calibration, sampling)
        elif name == "opportunistic":
            found += _opportunistic(calibration, budgets, sampling)
        elif name != "rand-hlm":
            found.append(Setting(sampling, name, "default", scheme.threshold))
    return found


def matched(rates: Iterable[tuple[str, float]], sampling: str) -> list[Setting]:
    """Return rand-hlm at the uplink rates of other settings, each with what it matches."""
    found = [(f"uplink rate of u-hlm, {choice}", rate) for choice, rate in rates]
    if sampling == SAMPLED:
        found += [(CURVE, rate) for rate in CURVE_RATES]
    return [
        Setting(sampling, "rand-hlm", choice, 1.0, uplink_probability=round(rate, 4))
        for choice, rate in found
    ]


def _calibrated(name: str, calibration: Calibration | None, sampling: str) -> list[Setting]:
    if calibration is None:
        return []
    fit = _rounded(calibration.fit)
    averse = float(f"{fit.risk_averse:.4g}")
    prone = min(1.0, max(0.0, float(f"{calibration.risk_prone:.4g}")))
    chosen = [("risk-averse, calibrated", averse), ("risk-prone, calibrated", prone)]
    if sampling == SAMPLED:
        chosen += [(CURVE, threshold) for threshold in CURVE_THRESHOLDS]
    found: dict[Setting, None] = {}
    for choice, threshold in chosen:
        ks = [NUM_IDS]
        if name == "cu-hlm-offline":
            ks = [calibration.offline_k, calibration.sent_k(prone if choice == CURVE else threshold)]
        for k in ks:
            found[Setting(sampling, name, choice, threshold, k, MEAN, 0.5, fit.slope, fit.intercept)] = None
    extra = CURVE_VOTES if sampling == SAMPLED and name == "u-hlm" else ()
    return [*found, *(Setting.papers(sampling, name, CURVE, threshold) for threshold in extra)]


def _rounded(fit: Fit) -> Fit:
    """The line with four digits, so that the last bits of a calibration do not make other settings."""
    return Fit(float(f"{fit.slope:.4g}"), float(f"{fit.intercept:.4g}"))


def _opportunistic(calibration: Calibration | None, budgets: Sequence[float], sampling: str) -> list[Setting]:
    name, fit = "opportunistic", _rounded(calibration.fit) if calibration else PUBLISHED_FIT
    chosen = [("default", SCHEMES[name].threshold)]
    if calibration is not None:
        chosen += [(f"risk budget {budget:g}", calibration.threshold_for(budget)) for budget in budgets]
        if sampling == SAMPLED:
            chosen += [
                (CURVE, threshold) for threshold in (float(f"{fit.risk_averse:.4g}"), *CURVE_THRESHOLDS)
            ]
    return [
        Setting(sampling, name, choice, threshold, slope=fit.slope, intercept=fit.intercept)
        for choice, threshold in chosen
    ]
