"""Waits for what another process does, at most for a while."""

import time
from collections.abc import Callable


def until(test: Callable[[], bool], what: str | Callable[[], str], timeout: float = 60.0) -> None:
    """Return once `test` is true; AssertionError with `what` when it is not in time."""
    end = time.monotonic() + timeout
    while not test():
        assert time.monotonic() < end, what if isinstance(what, str) else what()
        time.sleep(0.02)
