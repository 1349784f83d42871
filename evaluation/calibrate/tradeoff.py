"""What a threshold costs and saves, and how many probabilities are needed. Pure.

The risk of a threshold is mean(beta 1{u <= threshold}) over all tokens: the total variation that skipping
adds to a token (docs/method.md, section 3).
"""

import numpy as np

from common.sampling.randomness import FloatArray
from edge_agent.policy.rejection_fit import Fit
from edge_agent.tuning.calibration import OperatingPoint
from evaluation.calibrate.samples import SENT_LEVELS, Samples
from evaluation.reporting.resampling import Estimate, mean_of

THETA = 0.1  # the truncation error that CU-HLM tolerates: a default of ours, as the papers publish none


def thresholds() -> FloatArray:
    """Return the thresholds to try: steps of 0.01, and finer ones near 0, where most uncertainties are."""
    fine = np.geomspace(1e-4, 0.1, 37)
    return np.unique(np.round(np.concatenate([np.linspace(0.0, 1.0, 101), fine]), 6))


def operating_points(samples: Samples, estimator: str) -> tuple[OperatingPoint, ...]:
    """Return risk and uplink rate at each of `thresholds`."""
    uncertainty = samples.uncertainty[estimator]
    order = np.argsort(uncertainty, kind="stable")
    risk = np.concatenate([[0.0], np.cumsum(samples.rejection[order])]) / samples.num_tokens
    num_skipped = np.searchsorted(uncertainty[order], thresholds(), side="right")
    return tuple(
        OperatingPoint(float(threshold), float(risk[num]), 1.0 - num / samples.num_tokens)
        for threshold, num in zip(thresholds(), num_skipped.tolist(), strict=True)
    )


def cost(samples: Samples, estimator: str, threshold: float) -> tuple[Estimate, Estimate]:
    """Return risk and uplink rate of one threshold, with intervals."""
    skipped = (samples.uncertainty[estimator] <= threshold).astype(np.float64)
    resampled = mean_of([samples.rejection * skipped, 1.0 - skipped], samples.prompt)
    return resampled.estimate(0), resampled.estimate(1)


def papers_bound(samples: Samples, estimator: str, fit: Fit, threshold: float) -> float:
    """Return the papers' bound on the risk of a threshold: E[max(0, a u + b) 1{u <= threshold}]."""
    uncertainty = samples.uncertainty[estimator]
    expected = np.maximum(0.0, fit.slope * uncertainty + fit.intercept)
    return float(np.mean(expected * (uncertainty <= threshold)))


def offline_k(samples: Samples, theta: float = THETA) -> int:
    """Return k* of CU-HLM offline: the smallest k whose mean error bound is at most theta."""
    return _first_within(samples, samples.truncation_bound, theta)


def sent_ks(samples: Samples, theta: float = THETA) -> tuple[tuple[float, int], ...]:
    """Return k* from the tokens above each of SENT_LEVELS, where there are any."""
    return tuple(
        (level, _first_within(samples, bounds, theta))
        for level, bounds, num in zip(
            SENT_LEVELS, samples.sent_bounds, samples.num_above.tolist(), strict=True
        )
        if num
    )


def _first_within(samples: Samples, bounds: FloatArray, theta: float) -> int:
    within = np.flatnonzero(bounds <= theta)
    return int(samples.ks[within[0]] if len(within) else samples.ks[-1] + 1)
