"""Turns a progress bar that a library draws on a terminal into a line now and then.

Law: it is written to like standard error and never fails; what is not a percentage is dropped.
"""

import io
import re
from collections.abc import Callable
from time import monotonic

INTERVAL = 10.0  # seconds between two lines

_PERCENTAGE = re.compile(r"(\d{1,3})%")


class ProgressLines(io.TextIOBase):
    """A stream for `redirect_stderr`; `say` gets "45 %", at most once in `INTERVAL` seconds."""

    def __init__(self, say: Callable[[str], None], clock: Callable[[], float] = monotonic) -> None:
        """Nothing is said during the first interval."""
        self._say = say
        self._clock = clock
        self._said_at = clock()

    def write(self, text: str, /) -> int:
        """Take in what the bar draws."""
        found = _PERCENTAGE.findall(text)
        if found and self._clock() - self._said_at >= INTERVAL:
            self._said_at = self._clock()
            self._say(f"{found[-1]} %")
        return len(text)

    def writable(self) -> bool:
        """It is."""
        return True
