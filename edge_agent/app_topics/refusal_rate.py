"""How many refusals are sent, so that an app in a loop or a flood cannot keep the agent talking. Pure."""

BURST = 256
PER_SECOND = 4.0


class RefusalRate:
    """A bucket that fills again; times are seconds on the caller's clock."""

    def __init__(self, burst: int = BURST, per_second: float = PER_SECOND) -> None:
        self._burst, self._per_second = burst, per_second
        self._left, self._at = float(burst), 0.0
        self.is_exhausted = False  # when it was last asked

    def allows(self, now: float) -> bool:
        """Whether one more refusal may be sent now."""
        self._left = min(self._burst, self._left + (now - self._at) * self._per_second)
        self._at = now
        self.is_exhausted = self._left < 1
        if self._left < 1:
            return False
        self._left -= 1
        return True
