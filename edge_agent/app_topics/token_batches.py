"""The tokens of one answer, joined so that at most ten messages a second carry them. Pure.

Law: no token is lost, doubled or moved: the batches in order are the tokens in order, and the first batch
goes at once.
"""

from typing import Any

from edge_agent.session.transcript import Fate

INTERVAL = 0.1  # seconds between two messages
_MOST_NOTABLE_FIRST = (Fate.CORRECTED, Fate.UNVERIFIED, Fate.TARGET, Fate.LOCAL, Fate.FORCED, Fate.VERIFIED)


class TokenBatches:
    """Times are seconds on the caller's clock."""

    def __init__(self, interval: float = INTERVAL) -> None:
        self._interval = interval
        self._waiting: list[tuple[str, Fate]] = []
        self._num_sent = 0
        self._sent_at = float("-inf")

    def add(self, text: str, fate: Fate, now: float) -> float:
        """Add a final token; returns in how many seconds a batch is due: 0 is now."""
        self._waiting.append((text, fate))
        return max(0.0, self._sent_at + self._interval - now)

    def take(self, now: float) -> dict[str, Any] | None:
        """The next message, with all tokens that wait; None if none does.

        `n` is the number of its first token, `fate` the one of its tokens that most needs attention.
        """
        if not self._waiting:
            return None
        tokens, self._waiting = self._waiting, []
        n, self._num_sent, self._sent_at = self._num_sent, self._num_sent + len(tokens), now
        return {
            "n": n,
            "text": "".join(text for text, _ in tokens),
            "fate": next(str(fate) for fate in _MOST_NOTABLE_FIRST if fate in {each for _, each in tokens}),
            "tokens": [{"text": text, "fate": str(fate)} for text, fate in tokens],
        }
