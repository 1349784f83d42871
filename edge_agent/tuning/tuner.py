"""Chooses the numbers of each generation that the settings leave to the agent. Pure.

Law: they are chosen before a generation begins and stay fixed during it. The report has them, and set by hand
they reproduce the text.
"""

from dataclasses import dataclass, field

from edge_agent.policy.cheapest_k import DEFAULT_BYTE_PRICE
from edge_agent.policy.rejection_fit import Fit
from edge_agent.session.pacing import Experience
from edge_agent.session.tally import Tally
from edge_agent.tuning.link_estimate import LinkEstimate
from edge_agent.tuning.risk_control import RiskControl

PROBE_AFTER = 8  # silent generations in a row, then one that asks as if the link were unknown
PROBE_WEIGHT = 2.0  # how many drafts all those before such a silence count as


@dataclass(frozen=True, slots=True)
class Numbers:
    """The numbers of one generation."""

    threshold: float
    byte_price: float  # the time of a byte over that of a rejection


@dataclass(slots=True)
class Tuner:
    """One agent's choices over its life. `byte_price` None: from the measured link."""

    threshold: float
    fit: Fit
    byte_price: float | None = None
    control: RiskControl | None = None
    rejection_cost: float = 0.0  # seconds that an undetected rejection is worth; 0: ignore the link
    audit_share: float = 0.0
    link: LinkEstimate = field(default_factory=LinkEstimate)
    experience: Experience = field(default_factory=Experience)  # what the next text's pacing begins with
    _audits_due: float = 0.0
    _num_silent: int = 0  # generations since the last one that sent a draft

    def numbers(self) -> Numbers:
        """The numbers of the generation that begins now."""
        return Numbers(self._threshold(), self._byte_price())

    def wants_audit(self) -> bool:
        """Whether the next generation is audited; the share is kept exactly, for any seeds."""
        self._audits_due += self.audit_share
        if self._audits_due < 1.0:
            return False
        self._audits_due -= 1.0
        return True

    def ended(self, tally: Tally, experience: Experience) -> None:
        """A generation has ended, and its measurements are complete."""
        self.experience = experience
        self._num_silent = 0 if tally.num_uplinks or tally.num_audits else self._num_silent + 1
        if self._num_silent == PROBE_AFTER:
            self.link.fade(PROBE_WEIGHT)
        risk = tally.measured_risk if tally.num_skipped else 0.0
        if self.control is not None and risk is not None:
            self.control.observe(risk, tally.num_tokens)

    def _threshold(self) -> float:
        if self.control is not None:
            return self.control.threshold
        times = self.link.times
        if not self.rejection_cost or times is None or self._num_silent >= PROBE_AFTER:
            return self.threshold
        return self.fit.uncertainty_at(times.asking / self.rejection_cost)

    def _byte_price(self) -> float:
        times = self.link.times
        if self.byte_price is not None or times is None:
            return DEFAULT_BYTE_PRICE if self.byte_price is None else self.byte_price
        rejection = times.round_trip + times.verification + (self.experience.draft or 0.0)
        return min(1.0, times.seconds_per_byte / max(rejection, 1e-6))
