"""How much of its time the draft model may work: `eco` keeps a device cool at the price of speed. Pure.

Law: only time changes, never a token.
"""

from dataclasses import dataclass

MAX_REST = 1.0  # seconds: a long prompt is read in one go, and no token waits longer than this after it


@dataclass(frozen=True, slots=True)
class Power:
    """The most threads, and the share of the time that the draft model may compute."""

    max_threads: int
    share: float


POWERS = {  # one token reads all weights once: more threads wait for memory
    "full": Power(max_threads=4, share=1.0),
    "eco": Power(max_threads=1, share=0.5),
}


class Pace:
    """Rests after work, so that no more than `share` of the time is work. Times are of one clock."""

    def __init__(self, share: float = 1.0) -> None:
        self._rest_per_work = 1 / share - 1
        self._free_at = 0.0

    def rest(self, now: float) -> float:
        """Seconds to wait before the next work."""
        return max(0.0, self._free_at - now)

    def worked(self, began: float, ended: float) -> None:
        """Take in a piece of work; the rest that was due before it, and not taken, is still due."""
        owed = max(0.0, self._free_at - began)
        self._free_at = ended + min(MAX_REST, owed + self._rest_per_work * (ended - began))
