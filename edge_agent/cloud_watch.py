"""Whether the cloud is there, as far as the edge can tell, and what is to be done when it is not. Pure.

Law: only the policy `local` ever puts an unverified token where a verified one was wanted, and it says so.
"""

from dataclasses import dataclass

from edge_agent.session_settings import OnCloudLoss


@dataclass(slots=True)
class CloudWatch:
    """Times are the caller's clock in seconds; `reason` is the last loss as a sentence."""

    policy: OnCloudLoss
    timeout: float
    reason: str | None = None
    _answered_at: float = 0.0
    _away_until: float = float("-inf")

    def answered(self, now: float) -> None:
        """A worker has answered."""
        self._answered_at = now

    def runs_out_at(self, asked_at: float) -> float:
        """When the question of `asked_at` has waited long enough to call the cloud lost; perhaps never."""
        if self.policy is OnCloudLoss.WAIT:
            return float("inf")
        return max(asked_at, self._answered_at) + self.timeout

    def lose(self, reason: str, now: float, *, until_told: bool = False) -> None:
        """Go on without the cloud for one timeout, or until `find`."""
        self.reason = reason
        self._away_until = float("inf") if until_told else now + self.timeout

    def find(self) -> None:
        """The way to the cloud is open again: ask at the next occasion."""
        self._away_until = float("-inf")

    def is_away(self, now: float) -> bool:
        """Whether tokens go unverified for now."""
        return now < self._away_until
