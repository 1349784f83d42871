"""Exact verification when the target's probabilities are known at the ids of the draft's lattice alone. Pure.

Law 2, as in `cloud_worker.session.verification`: accept d with min(1, y_d / q_d), else draw from (y - q)+.
Outside the lattice q is 0, so the residual there is y itself, with the mass 1 - y(lattice): a sample of the
target that lies outside the lattice has its distribution. Inside, everything is known.
"""

from dataclasses import dataclass

import numpy as np

from common.sampling.distribution import Lattice
from common.sampling.randomness import FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """What becomes of a draft token: the residual [k] at the lattice's ids, and its mass outside."""

    lattice: Lattice
    target_probs: FloatArray  # [k], at the lattice's ids
    inside: FloatArray
    outside: float

    @classmethod
    def of(cls, lattice: Lattice, target_probs: FloatArray) -> "Split":
        """The split for the target's probabilities [k] of the lattice's ids."""
        inside = np.maximum(target_probs - lattice.counts / lattice.total, 0.0)
        return cls(lattice, target_probs, inside, max(0.0, 1.0 - float(target_probs.sum())))

    def accept_probability(self, token: int) -> float:
        """min(1, y_d / q_d) for one of the lattice's ids."""
        index = self.lattice.ids.tolist().index(token)
        count = int(self.lattice.counts[index])
        return min(1.0, float(self.target_probs[index]) * self.lattice.total / count)

    def replacement(self, uniform: float) -> int | None:
        """The token at `uniform` on the residual; None where it lies outside the lattice."""
        cumulative = np.cumsum(self.inside)
        inside = float(cumulative[-1])
        index = int(np.searchsorted(cumulative, uniform * (inside + self.outside), side="right"))
        return int(self.lattice.ids[index]) if index < len(cumulative) else None

    def nearest(self) -> int | None:
        """The lattice's id with the largest residual, where no sample outside exists; None without any."""
        best = int(np.argmax(self.inside))
        return int(self.lattice.ids[best]) if self.inside[best] > 0.0 else None
