"""What workers refused since one last answered, and how long that may delay a session. Pure.

Law: one worker of a pool never stops a session, no matter what it refuses or how long it wants to be left
alone. The pool is asked again after a bounded pause, which grows only while every worker refuses. A refusal
that asking again cannot resolve counts once two workers agree, or one repeats it.
"""

from collections import Counter
from dataclasses import dataclass, field

from common.protocol.messages import Reason, Refusal
from edge_agent.errors import SHORTEN

FIRST_PAUSE = 1.0  # seconds; the longest pause after a first refusal
LONGEST_PAUSE = 20.0
GROWTH = 1 / 4  # of the time for which all have refused: a full pool is asked less and less often
MAX_WORKERS = 2  # that refuse for good: it is not one worker's fault
MAX_REPEATS = 5  # by one worker, which may be the only one
SHORT_PAUSE = 0.1  # after such a refusal; one that comes several times counts once

ADVICE = {
    Reason.TOKENIZER_MISMATCH: "use a draft and a target model of one family",
    Reason.TOO_LONG: f"{SHORTEN} or ask for fewer tokens",
    Reason.UNSUPPORTED_VERSION: "upgrade the older of the two sides",
}


@dataclass(slots=True)
class Refusals:
    """Those since the last answer. Times are seconds on the caller's clock; `least` is the shortest pause."""

    least: float
    _since: float | None = None
    _final: Counter[str] = field(default_factory=Counter[str])

    def pause(self, refusal: Refusal, now: float) -> float:
        """How long to leave the pool alone: as long as the worker asks, within the bound."""
        self._since = now if self._since is None else self._since
        bound = min(LONGEST_PAUSE, max(FIRST_PAUSE, GROWTH * (now - self._since)))
        return min(max(self.least, refusal.retry_after), max(self.least, bound))

    def settles(self, refusal: Refusal) -> bool:
        """Count a refusal that asking again cannot resolve; whether to believe it now."""
        self._final[refusal.worker] += 1
        return len(self._final) >= MAX_WORKERS or self._final[refusal.worker] >= MAX_REPEATS

    def clear(self) -> None:
        """A worker has answered."""
        self._since = None
        self._final.clear()


def explain(refusal: Refusal) -> str:
    """The message for a refusal that asking again cannot resolve."""
    detail = "".join(character if character.isprintable() else " " for character in refusal.detail)
    told = f"worker {refusal.worker} refused the draft: {detail}"
    if ";" in detail:
        return told  # it says what to do
    return f"{told}; {ADVICE.get(refusal.reason, 'agent and worker may be of different releases')}"
