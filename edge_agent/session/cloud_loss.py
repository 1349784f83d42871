"""Whether the cloud can be reached, as far as the edge can tell, and what to do when it cannot. Pure.

Law: only the policy `local` ever emits an unverified token in place of a verified one, and marks it as such.
It never does while the link may still get its first connection: that is waited for like a lost cloud.
"""

from dataclasses import dataclass

from common.protocol.messages import Refusal
from edge_agent.session.settings import OnCloudLoss

UNREACHABLE = "the broker cannot be reached"
EMPTY_POOL = "no worker serves the pool"
LEAST_GRACE = 1.0  # seconds after a reconnection in which workers may still be reconnecting too


@dataclass(slots=True)
class CloudLoss:
    """Times are seconds on the caller's clock; `reason` says in one line why the cloud was last lost.

    `pause` is the first time to go without an empty pool before it is asked again.
    """

    policy: OnCloudLoss
    timeout: float
    pause: float
    reason: str | None = None
    answered_at: float = 0.0
    _reported: float | None = None  # `answered_at` of the last silence that was reported
    _busy: str | None = None  # the last refusal for lack of room; None after an answer
    _connecting_since: float | None = None  # None once the link has been up
    _lost_at: float | None = None  # None while the link is up
    _grace_until: float = float("-inf")  # an empty pool is waited for
    _num_empty: int = 0  # times that the pool was left because it was empty, since it last answered
    _away_until: float = float("-inf")

    def answered(self, now: float) -> None:
        """Note an answer from a worker."""
        self.answered_at = now
        self._busy = None
        self._num_empty = 0

    def refused(self, refusal: Refusal) -> None:
        """Note that a worker has no room for now, which does not count as an answer."""
        detail = "".join(one if one.isprintable() else " " for one in refusal.detail).strip()
        self._busy = f"{detail or 'no reason given'} ({refusal.worker})"

    @property
    def complaint(self) -> str:
        """Why a draft has waited too long, in one line."""
        if self._connecting_since is not None:
            return UNREACHABLE
        if self._busy is None:
            return f"no worker answered for {self.timeout:g} s"
        advice = "try again later, or add a worker to the pool"
        return f"every worker that answered for {self.timeout:g} s was busy: {self._busy}; {advice}"

    # -- silence --------------------------------------------------------------------------------------

    def runs_out_at(self, asked_at: float) -> float:
        """When a draft asked at `asked_at` has waited so long that the policy applies; perhaps never."""
        return float("inf") if self.policy is OnCloudLoss.WAIT else self._silent_from(asked_at)

    def due_at(self, asked_at: float) -> float:
        """When the policy applies or a silence must be reported, whichever comes first; perhaps never."""
        return self.runs_out_at(asked_at) if self._is_reported else self._silent_from(asked_at)

    def silence(self, asked_at: float, now: float) -> str | None:
        """Why a draft asked at `asked_at` still waits; once after each answer, None otherwise."""
        if self._is_reported or now < self._silent_from(asked_at):
            return None
        self._reported = self.answered_at
        return self.complaint

    @property
    def _is_reported(self) -> bool:
        return self._reported == self.answered_at

    def _silent_from(self, asked_at: float) -> float:
        if self._connecting_since is not None:
            return self._connecting_since + self.timeout
        return max(asked_at, self.answered_at) + self.timeout

    # -- the link -------------------------------------------------------------------------------------

    def connecting(self, since: float) -> None:
        """The link has been trying to get its first connection since `since`."""
        self._connecting_since = since

    def disconnected(self, now: float) -> None:
        """The link was up and is down."""
        self._lost_at = now

    def connected(self, now: float) -> None:
        """The link is up: ask the cloud with the next draft.

        A worker tries as often as we do, so it is back after at most as long again as the interruption.
        """
        self._away_until = float("-inf")
        self._num_empty = 0
        if self._connecting_since is not None:
            self.answered_at = now  # the wait for an answer begins only now
        if self._lost_at is not None:
            self._grace_until = now + max(LEAST_GRACE, now - self._lost_at)
        self._connecting_since = self._lost_at = None

    # -- going on alone -------------------------------------------------------------------------------

    def lose(self, reason: str, now: float) -> None:
        """Continue without the cloud for one timeout, or until the link is up."""
        self.reason = reason
        is_linked = self._connecting_since is None and self._lost_at is None
        self._away_until = now + self.timeout if is_linked else float("inf")

    def leaves_empty_pool(self, now: float) -> bool:
        """Whether to continue without a pool that has no worker; not just after an interruption."""
        return self.policy is OnCloudLoss.LOCAL and now >= self._grace_until

    def lose_pool(self, now: float) -> None:
        """Continue without an empty pool for a pause that doubles each time, up to one timeout."""
        self.lose(EMPTY_POOL, now)
        self._away_until = min(self._away_until, now + self.pause * 2**self._num_empty)
        self._num_empty = min(self._num_empty + 1, 30)

    def is_away(self, now: float) -> bool:
        """Whether tokens are left unverified for now."""
        return now < self._away_until
