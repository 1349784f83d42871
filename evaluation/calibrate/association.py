"""How well an estimator's uncertainty predicts rejection: three figures with intervals. Pure.

Pearson (linear), Spearman (by rank), and AUROC: the probability that a rejected token was more uncertain than
an accepted one. The random draw that accepts is averaged out: each token counts as rejected with weight beta
and as accepted with weight 1 - beta, as infinitely many draws would give.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from common.sampling.distribution import IntArray
from common.sampling.randomness import FloatArray
from evaluation.calibrate.samples import Samples
from evaluation.reporting.resampling import Estimate, Resampled, resample

FIGURES = ("pearson", "spearman", "auroc")


@dataclass(frozen=True, slots=True)
class Associations:
    """Every figure of every estimator, from the same resamples, so differences are paired."""

    estimators: tuple[str, ...]
    resampled: Resampled

    def of(self, estimator: str, figure: str) -> Estimate:
        """Return one figure, by its name in FIGURES."""
        return self.resampled.estimate(self._index(estimator, figure))

    def difference(self, first: str, second: str, figure: str) -> Estimate:
        """Return by how much `first` is better than `second`."""
        return self.resampled.difference(self._index(first, figure), self._index(second, figure))

    def best(self, figure: str) -> str:
        """Return the estimator with the largest figure."""
        return max(self.estimators, key=lambda name: self.of(name, figure).value)

    def _index(self, estimator: str, figure: str) -> int:
        return len(FIGURES) * self.estimators.index(estimator) + FIGURES.index(figure)


def associate(samples: Samples, *, progress: Callable[[Iterable[int]], Iterable[int]] = iter) -> Associations:
    """Correlate every estimator with the rejection probability."""
    rejection = Groups.of(samples.rejection)
    columns = [Groups.of(column) for column in samples.uncertainty.values()]

    def figures(weights: FloatArray) -> FloatArray:
        ranks = rejection.midranks(weights)
        return np.concatenate([_figures(column, rejection.values, ranks, weights) for column in columns])

    return Associations(tuple(samples.uncertainty), resample(figures, samples.prompt, progress=progress))


@dataclass(frozen=True, slots=True, eq=False)
class Groups:
    """Values [n] with the rank of each among the distinct ones, so that resampling need not sort again."""

    values: FloatArray
    group: IntArray

    @classmethod
    def of(cls, values: FloatArray) -> "Groups":
        """Rank the values once."""
        return cls(values, np.unique(values, return_inverse=True)[1])

    def midranks(self, weights: FloatArray) -> FloatArray:
        """Return ranks [n] where a row counts `weights` times; equal values share their mean rank."""
        counts = np.bincount(self.group, weights=weights)
        return (np.cumsum(counts) - (counts - 1) / 2)[self.group]

    def auroc(self, rejection: FloatArray, weights: FloatArray) -> float:
        """Return P(rejected token's value > accepted token's) + P(equal) / 2; nan without either kind."""
        rejected = np.bincount(self.group, weights=weights * rejection)
        accepted = np.bincount(self.group, weights=weights * (1.0 - rejection))
        pairs = rejected.sum() * accepted.sum()
        below = np.cumsum(accepted) - accepted / 2
        return float(rejected @ below / pairs) if pairs > 0 else float("nan")


def _figures(
    uncertainty: Groups, rejection: FloatArray, rejection_ranks: FloatArray, weights: FloatArray
) -> FloatArray:
    return np.array(
        [
            correlation(uncertainty.values, rejection, weights),
            correlation(uncertainty.midranks(weights), rejection_ranks, weights),
            uncertainty.auroc(rejection, weights),
        ]
    )


def correlation(first: FloatArray, second: FloatArray, weights: FloatArray) -> float:
    """Return Pearson's correlation; nan if one of the two does not vary."""
    first = first - np.average(first, weights=weights)
    second = second - np.average(second, weights=weights)
    scale = np.sqrt((weights * first @ first) * (weights * second @ second))
    return float(weights * first @ second / scale) if scale > 0 else float("nan")
