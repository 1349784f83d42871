"""Rejection probability as a function of uncertainty: the papers' line, an isotonic curve, their reliability.

Pure. The line is fitted by least squares (arXiv 2412.12687); its intervals and those of the thresholds come
from resampled prompts. The isotonic curve is the best non-decreasing one (Barlow et al. 1972).
"""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import isotonic_regression

from common.sampling.distribution import IntArray
from common.sampling.randomness import FloatArray
from edge_agent.errors import CalibrationError
from edge_agent.policy.rejection_fit import Fit
from evaluation.calibrate.samples import Samples
from evaluation.reporting.resampling import Estimate, mean_of, resample

NUM_BINS = 10


@dataclass(frozen=True, slots=True)
class Line:
    """The fit beta ~ slope * u + intercept, the share D = P(y_d < x_d), and both thresholds."""

    slope: Estimate
    intercept: Estimate
    share_below: Estimate
    risk_averse: Estimate
    risk_prone: Estimate
    explained: float  # the explained share of the variance, R^2

    @property
    def fit(self) -> Fit:
        """The fit as in the calibration file."""
        return Fit(self.slope.value, self.intercept.value)


def fit_line(samples: Samples, estimator: str) -> Line:
    """Fit by least squares over all draft tokens; CalibrationError if a column does not vary."""
    uncertainty, rejection = samples.uncertainty[estimator], samples.rejection
    if np.ptp(uncertainty) == 0.0 or np.ptp(rejection) == 0.0:
        raise CalibrationError(
            f"all {samples.num_tokens} draft tokens have the same uncertainty or the same rejection "
            "probability, so nothing can be fitted: use more prompts or a higher temperature"
        )

    def figures(weights: FloatArray) -> FloatArray:
        slope, intercept = least_squares(uncertainty, rejection, weights)
        share_below = float(np.average(samples.below, weights=weights))
        return np.array(
            [slope, intercept, share_below, -intercept / slope, (share_below - intercept) / slope]
        )

    resampled = resample(figures, samples.prompt)
    slope, intercept = resampled.values[:2]
    residual = rejection - slope * uncertainty - intercept
    explained = 1.0 - float(np.var(residual) / np.var(rejection))
    return Line(
        slope=resampled.estimate(0),
        intercept=resampled.estimate(1),
        share_below=resampled.estimate(2),
        risk_averse=resampled.estimate(3),
        risk_prone=resampled.estimate(4),
        explained=explained,
    )


def least_squares(uncertainty: FloatArray, rejection: FloatArray, weights: FloatArray) -> tuple[float, float]:
    """Return slope and intercept where a token counts `weights` times; nan if the uncertainty is constant."""
    middle = float(np.average(uncertainty, weights=weights))
    centred = uncertainty - middle
    spread = weights * centred @ centred
    slope = float(weights * centred @ rejection / spread) if spread > 0 else float("nan")
    return slope, float(np.average(rejection, weights=weights)) - slope * middle


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """A non-decreasing curve through the points (uncertainty, rejection), linear between them."""

    uncertainty: FloatArray
    rejection: FloatArray

    def at(self, uncertainty: FloatArray) -> FloatArray:
        """Return the expected rejection probability."""
        return np.interp(uncertainty, self.uncertainty, self.rejection)


def isotonic_curve(uncertainty: FloatArray, rejection: FloatArray) -> Curve:
    """Fit the non-decreasing curve by least squares; equal uncertainties are one point."""
    points, group, counts = np.unique(uncertainty, return_inverse=True, return_counts=True)
    means = np.bincount(group, weights=rejection) / counts
    return Curve(points, np.asarray(isotonic_regression(means, weights=counts).x))


@dataclass(frozen=True, slots=True)
class Bin:
    """Tokens with similar predictions: the mean prediction, and the observed mean with its interval."""

    num_tokens: int
    predicted: float
    observed: Estimate


def reliability(predicted: FloatArray, rejection: FloatArray, prompts: IntArray) -> list[Bin]:
    """Return bins, ascending, with about equal expected rejections.

    Bins of equal numbers of tokens would nearly all hold certain tokens, since most are.
    """
    order = np.argsort(predicted, kind="stable")
    mass = np.cumsum(np.maximum(predicted[order], 0.0) + 1e-9)
    edges = np.searchsorted(mass, mass[-1] * np.arange(1, NUM_BINS) / NUM_BINS)
    bins: list[Bin] = []
    for rows in np.split(order, np.unique(edges)):
        if len(rows):
            observed = mean_of([rejection[rows]], prompts[rows])
            bins.append(Bin(len(rows), float(predicted[rows].mean()), observed.estimate(0)))
    return bins
