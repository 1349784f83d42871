"""Intervals that respect that tokens of one answer belong together: the cluster bootstrap over prompts. Pure.

Whole prompts are drawn with replacement (Efron and Tibshirani 1993, chapter 8); an interval is the middle
95 % of what a statistic becomes.
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
        """`value (low to high)`, each in the given format."""
        return f"{self.value:{spec}} ({self.low:{spec}} to {self.high:{spec}})"


@dataclass(frozen=True, slots=True)
class Resampled:
    """Statistics [m] of all rows, and of each resample: draws [num_resamples, m]."""

    values: FloatArray
    draws: FloatArray

    def estimate(self, index: int) -> Estimate:
        """One statistic."""
        return _estimate(float(self.values[index]), self.draws[:, index])

    def difference(self, first: int, second: int) -> Estimate:
        """`first` - `second`, paired: both are taken from the same resamples."""
        value = float(self.values[first] - self.values[second])
        return _estimate(value, self.draws[:, first] - self.draws[:, second])


def resample(
    statistics: Callable[[FloatArray], FloatArray],
    clusters: IntArray,
    *,
    seed: int = 0,
    progress: Callable[[Iterable[int]], Iterable[int]] = iter,
) -> Resampled:
    """`statistics(weights)` gives m figures of rows that count `weights` [num_rows] times.

    `clusters` [num_rows] says which prompt each row is of.
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
    """The means of some columns [num_rows]."""
    return resample(
        lambda weights: np.array([np.average(each, weights=weights) for each in columns]), clusters
    )


def _estimate(value: float, draws: npt.NDArray[np.float64]) -> Estimate:
    low, high = np.nanpercentile(draws, (TAIL, 100 - TAIL))
    return Estimate(value, float(low), float(high))
