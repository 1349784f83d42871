"""The counts of all generations of an agent, and of the answers that had no effect. Pure values.

Law: counts only grow. A running generation is included, and is not counted twice when it ends.
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
    """Counts of one agent since it started."""

    num_generations: dict[str, int] = field(default_factory=lambda: dict.fromkeys(OUTCOMES, 0))
    num_refusals: dict[Reason, int] = field(default_factory=lambda: dict.fromkeys(Reason, 0))
    num_unreadable: int = 0  # answers that could not be decoded
    worker: str | None = None  # the last that answered
    _round_trip: float | None = None
    _ended: Tally = field(default_factory=Tally)
    _running: list[EdgeSession] = field(default_factory=list)

    @property
    def tally(self) -> Tally:
        """The sum of all tallies."""
        return _sum(self._ended, *(session.tally for session in self._running))

    @property
    def round_trip(self) -> float | None:
        """Smoothed round trip in seconds, of the last generation to begin that has measured one."""
        measured = [session.round_trip.smoothed for session in reversed(self._running)]
        return next((one for one in measured if one is not None), self._round_trip)

    @property
    def is_generating(self) -> bool:
        """Whether a generation is running."""
        return self.num_running > 0

    @property
    def num_running(self) -> int:
        """How many generations are running."""
        return len(self._running)

    @contextmanager
    def counting(self, session: EdgeSession) -> Generator[None]:
        """Count a session for as long as its generation runs, and then for good."""
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
        """Add what an audit measured after its generation ended."""
        self._ended.add(tally)

    def answered(self, message: ToDevice) -> None:
        """Count a worker's answer."""
        self.worker = message.worker
        if isinstance(message, Refusal):
            self.num_refusals[message.reason] += 1


def _sum(*tallies: Tally) -> Tally:
    total = Tally()
    for tally in tallies:
        total.add(tally)
    return total
