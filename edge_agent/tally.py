"""The counts of one generation, and the rates that follow from them. Pure values."""

from dataclasses import dataclass, field

import numpy as np

from common.distribution import decode_probs
from common.randomness import FloatArray
from edge_agent.transcript import Fate


@dataclass(slots=True)
class Tally:
    """Counts of one generation."""

    num_uplinks: int = 0  # drafts sent, each counted once
    num_resent: int = 0  # drafts sent again
    num_tested: int = 0  # draft tokens that the target accepted or rejected
    num_accepted: int = 0
    num_rejections: int = 0
    num_ignored: int = 0  # late, repeated or malformed answers
    num_measured: int = 0  # skipped tokens whose rejection probability became known
    measured_risk_sum: float = 0.0  # the sum of those probabilities
    num_by_fate: dict[Fate, int] = field(default_factory=lambda: dict.fromkeys(Fate, 0))

    @property
    def num_tokens(self) -> int:
        """Final tokens."""
        return sum(self.num_by_fate.values())

    @property
    def acceptance_rate(self) -> float | None:
        """Accepted over tested draft tokens; None when none was tested."""
        return self.num_accepted / self.num_tested if self.num_tested else None

    @property
    def measured_risk(self) -> float | None:
        """Mean rejection probability of the tokens that were skipped; None when none was measured."""
        return self.measured_risk_sum / self.num_measured if self.num_measured else None

    def measure(self, draft_probs: FloatArray, codes: bytes) -> None:
        """Deferred verification: the target's probabilities `codes` [m] of m tokens that were skipped."""
        target_probs = decode_probs(np.frombuffer(codes, np.uint8))
        self.num_measured += len(codes)
        self.measured_risk_sum += float(np.maximum(0.0, 1.0 - target_probs / draft_probs).sum())
