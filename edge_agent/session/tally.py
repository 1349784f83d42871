"""The counts of one generation, and the rates that follow from them. Pure values."""

import math
from dataclasses import dataclass, field

import numpy as np

from common.sampling.distribution import decode_probs
from common.sampling.randomness import FloatArray
from edge_agent.session.transcript import SKIPPED, Fate


@dataclass(slots=True)
class Tally:
    """Counts of one generation."""

    num_uplinks: int = 0  # drafts sent, each counted once
    num_resent: int = 0  # drafts sent again
    num_ignored: int = 0  # late, repeated or malformed answers
    num_audits: int = 0  # drafts that measure what was skipped, sent after the text was final
    num_measured: int = 0  # skipped tokens whose rejection probability became known
    measured_risk_sum: float = 0.0  # the sum of those probabilities
    num_by_fate: dict[Fate, int] = field(default_factory=lambda: dict.fromkeys(Fate, 0))

    @property
    def num_tokens(self) -> int:
        """Final tokens."""
        return sum(self.num_by_fate.values())

    @property
    def num_accepted(self) -> int:
        """Final draft tokens that the target accepted."""
        return self.num_by_fate[Fate.VERIFIED]

    @property
    def num_tested(self) -> int:
        """Final tokens whose draft the target accepted or rejected."""
        return self.num_accepted + self.num_by_fate[Fate.CORRECTED]

    @property
    def acceptance_rate(self) -> float | None:
        """Accepted over tested draft tokens; None when none was tested."""
        return self.num_accepted / self.num_tested if self.num_tested else None

    @property
    def num_skipped(self) -> int:
        """Final tokens that were never verified."""
        return sum(self.num_by_fate[fate] for fate in SKIPPED)

    @property
    def measured_risk(self) -> float | None:
        """Drift per token of the text: what skipping risked, over all tokens; None when none was measured.

        Skipped tokens that were not measured are assumed to be like those that were.
        """
        if not self.num_measured:
            return None
        return self.measured_risk_sum / self.num_measured * self.num_skipped / max(1, self.num_tokens)

    def add(self, other: "Tally") -> None:
        """Add the counts of another tally to these."""
        self.num_uplinks += other.num_uplinks
        self.num_resent += other.num_resent
        self.num_ignored += other.num_ignored
        self.num_audits += other.num_audits
        self.num_measured += other.num_measured
        self.measured_risk_sum += other.measured_risk_sum
        for fate, count in other.num_by_fate.items():
            self.num_by_fate[fate] += count

    def measure(self, draft_probs: FloatArray, codes: bytes) -> list[float]:
        """Deferred verification: the target's probabilities `codes` [m] of m tokens that were skipped.

        Returns the rejection probability of each. One whose draft probability is NaN was not drafted, does
        not count, and has none.
        """
        target_probs = decode_probs(np.frombuffer(codes, np.uint8))
        risks = [float(risk) for risk in np.maximum(0.0, 1.0 - target_probs / draft_probs)]
        known = [risk for risk in risks if not math.isnan(risk)]
        self.num_measured += len(known)
        self.measured_risk_sum += sum(known)
        return risks
