"""Confidence intervals by a cluster bootstrap over prompts, as tokens of one answer are correlated. Pure.

Whole prompts are drawn with replacement (Efron and Tibshirani 1993, chapter 8); an interval holds the middle
95 % of the resampled statistics.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from common.sampling.distribution import IntArray
from common.sampling.randomness import FloatArray

NUM_RESAMPLES = 1000
TAIL = 2.5  # percent on either side


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure with its 95 % confidence interval."""

    value: float
    low: float
    high: float

    def __format__(self, spec: str) -> str:
        """Return `value (low to high)`, each in the given format."""
        return f"{self.value:{spec}} ({self.low:{spec}} to {self.high:{spec}})"


@dataclass(frozen=True, slots=True)
class Resampled:
    """Statistics [m] of all rows, and of each resample: draws [num_resamples, m]."""

    values: FloatArray
    draws: FloatArray

    def estimate(self, index: int) -> Estimate:
        """Return one statistic with its interval."""
        return _estimate(float(self.values[index]), self.draws[:, index])

    def difference(self, first: int, second: int) -> Estimate:
        """Return `first` - `second`, paired: both come from the same resamples."""
        value = float(self.values[first] - self.values[second])
        return _estimate(value, self.draws[:, first] - self.draws[:, second])


def resample(
    statistics: Callable[[FloatArray], FloatArray],
    clusters: IntArray,
    *,
    seed: int = 0,
    progress: Callable[[Iterable[int]], Iterable[int]] = iter,
) -> Resampled:
    """Resample `statistics(weights)`, which returns m figures of rows that count `weights` [num_rows] times.

    `clusters` [num_rows] is the prompt that each row belongs to.
    """
    rng = np.random.default_rng(seed)
    _, cluster = np.unique(clusters, return_inverse=True)
    num_clusters = int(cluster.max()) + 1
    even = np.full(num_clusters, 1 / num_clusters)
    draws = [
        statistics(rng.multinomial(num_clusters, even)[cluster].astype(np.float64))
        for _ in progress(range(NUM_RESAMPLES))
    ]
    return Resampled(statistics(np.ones(len(cluster))), np.array(draws))


def mean_of(columns: Sequence[FloatArray], clusters: IntArray) -> Resampled:
    """Resample the means of some columns [num_rows]."""
    return resample(
        lambda weights: np.array([np.average(each, weights=weights) for each in columns]), clusters
    )


def _estimate(value: float, draws: npt.NDArray[np.float64]) -> Estimate:
    low, high = np.nanpercentile(draws, (TAIL, 100 - TAIL))
    return Estimate(value, float(low), float(high))
