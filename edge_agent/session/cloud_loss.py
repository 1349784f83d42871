"""Whether the cloud can be reached, as far as the edge can tell, and what to do when it cannot. Pure.

Law: only the policy `local` ever emits an unverified token in place of a verified one, and marks it as such.
"""

from dataclasses import dataclass

from common.protocol.messages import Refusal
from edge_agent.session.settings import OnCloudLoss


@dataclass(slots=True)
class CloudLoss:
    """Times are seconds on the caller's clock; `reason` says in one line why the cloud was last lost."""

    policy: OnCloudLoss
    timeout: float
    reason: str | None = None
    answered_at: float = 0.0
    _reported: float | None = None  # `answered_at` of the last silence that was reported
    _busy: str | None = None  # the last refusal for lack of room; None after an answer
    _away_until: float = float("-inf")

    def answered(self, now: float) -> None:
        """Note an answer from a worker."""
        self.answered_at = now
        self._busy = None

    def refused(self, refusal: Refusal) -> None:
        """Note that a worker has no room for now, which does not count as an answer."""
        detail = "".join(one if one.isprintable() else " " for one in refusal.detail).strip()
        self._busy = f"{detail or 'no reason given'} ({refusal.worker})"

    @property
    def complaint(self) -> str:
        """Why a draft has waited too long, in one line."""
        if self._busy is None:
            return f"no worker answered for {self.timeout:g} s"
        advice = "try again later, or add a worker to the pool"
        return f"every worker that answered for {self.timeout:g} s was busy: {self._busy}; {advice}"

    def runs_out_at(self, asked_at: float) -> float:
        """When a draft first sent at `asked_at` has waited so long that the policy applies; perhaps never."""
        return float("inf") if self.policy is OnCloudLoss.WAIT else self._silent_from(asked_at)

    def due_at(self, asked_at: float) -> float:
        """When the policy applies or a silence must be reported, whichever comes first; perhaps never."""
        return self.runs_out_at(asked_at) if self._is_reported else self._silent_from(asked_at)

    def silence(self, asked_at: float, now: float) -> str | None:
        """Why a draft first sent at `asked_at` still waits; once after each answer, None otherwise."""
        if self._is_reported or now < self._silent_from(asked_at):
            return None
        self._reported = self.answered_at
        return self.complaint

    @property
    def _is_reported(self) -> bool:
        return self._reported == self.answered_at

    def _silent_from(self, asked_at: float) -> float:
        return max(asked_at, self.answered_at) + self.timeout

    def lose(self, reason: str, now: float, *, until_found: bool = False) -> None:
        """Continue without the cloud for one timeout, or until `find`."""
        self.reason = reason
        self._away_until = float("inf") if until_found else now + self.timeout

    def find(self) -> None:
        """The cloud can be reached again: ask it with the next draft."""
        self._away_until = float("-inf")

    def is_away(self, now: float) -> bool:
        """Whether tokens are left unverified for now."""
        return now < self._away_until
