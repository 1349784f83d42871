"""Which of two schemes answers next, by the seconds per token of the answers so far. Pure.

Law: the choice is made before an answer begins and holds to its end, and its report names the scheme. So that
the slower one costs little, it is tried again only after answers enough to pay for that.
"""

from dataclasses import dataclass, field

SMOOTHING = 1 / 4
LOSS = 0.03  # share of the time that trials of the slower scheme may cost
LEAST_PAUSE, MOST_PAUSE = 8, 200  # answers between two trials
LEAST_TOKENS = 8  # of an answer that says something about speed


@dataclass(slots=True)
class Faster:
    """`names`: the schemes; while one is unknown it is tried, the first one first."""

    names: tuple[str, str]
    _seconds: dict[str, float] = field(default_factory=dict[str, float])  # per token
    _num_since: int = 0  # answers since the slower one was tried

    def choose(self) -> str:
        """The scheme of the next answer."""
        for name in self.names:
            if name not in self._seconds:
                return name
        fast, slow = sorted(self.names, key=self._seconds.__getitem__)
        price = self._seconds[slow] / self._seconds[fast] - 1.0
        pause = min(MOST_PAUSE, max(LEAST_PAUSE, price / LOSS))
        return slow if self._num_since >= pause else fast

    def ended(self, name: str, seconds: float, num_tokens: int) -> None:
        """An answer of this scheme took so long."""
        if num_tokens < LEAST_TOKENS or name not in self.names:
            return
        per_token = seconds / num_tokens
        before = self._seconds.get(name, per_token)
        self._seconds[name] = before + SMOOTHING * (per_token - before)
        is_slow = name == max(self.names, key=lambda one: self._seconds.get(one, 0.0))
        self._num_since = 0 if is_slow else self._num_since + 1
