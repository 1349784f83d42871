"""What all generations of an agent did together, and the answers that led to nothing. Pure values.

Law: counts only grow, so a running generation counts already, and is counted once when it ends.
"""

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field

from common.protocol.messages import Reason, Refusal, ToDevice
from edge_agent.session.session import EdgeSession
from edge_agent.session.tally import Tally

OUTCOMES = ("stop", "length", "error")  # the finish reasons of a session


@dataclass(slots=True)
class Totals:
    """Counts of one agent since it began."""

    num_generations: dict[str, int] = field(default_factory=lambda: dict.fromkeys(OUTCOMES, 0))
    num_refusals: dict[Reason, int] = field(default_factory=lambda: dict.fromkeys(Reason, 0))
    num_unreadable: int = 0  # answers that no codec understood
    _round_trip: float | None = None
    _ended: Tally = field(default_factory=Tally)
    _running: list[EdgeSession] = field(default_factory=list)

    @property
    def tally(self) -> Tally:
        """All tallies in one."""
        return _sum(self._ended, *(session.tally for session in self._running))

    @property
    def round_trip(self) -> float | None:
        """Smoothed round trip in seconds, of the last generation that measured one."""
        measured = [session.round_trip.smoothed for session in self._running]
        return next((one for one in measured if one is not None), self._round_trip)

    @property
    def is_generating(self) -> bool:
        """Whether a generation runs."""
        return bool(self._running)

    @contextmanager
    def counting(self, session: EdgeSession) -> Generator[None]:
        """Around a generation."""
        self._running.append(session)
        try:
            yield
        finally:
            self._round_trip = self.round_trip
            self._running.remove(session)
            self._ended = _sum(self._ended, session.tally)
            outcome = session.finish_reason or "stop"
            self.num_generations[outcome] = self.num_generations.get(outcome, 0) + 1

    def audited(self, tally: Tally) -> None:
        """A generation that has ended was measured further."""
        self._ended.add(tally)

    def answered(self, message: ToDevice) -> None:
        """A worker's answer arrived."""
        if isinstance(message, Refusal):
            self.num_refusals[message.reason] += 1


def _sum(*tallies: Tally) -> Tally:
    total = Tally()
    for tally in tallies:
        total.add(tally)
    return total
