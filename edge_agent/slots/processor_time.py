"""Which conversation used the processor, when several run in one process. Pure.

Law: the shares of the conversations add up to what the process used while any of them ran. A run of the draft
model belongs to its conversation, with all its threads. Everything else, such as the event loop, cannot be
told apart and belongs to those that run in equal parts. So a conversation that runs alone gets all.
"""

from collections.abc import Hashable
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)


class ProcessorTime(Generic[Key]):
    """`now` is the processor time of the whole process so far, in seconds."""

    def __init__(self) -> None:
        self._used: dict[Key, float] = {}
        self._at = 0.0
        self._running: Key | None = None  # whose run of the draft model is in progress

    @property
    def is_shared(self) -> bool:
        """Whether several conversations run, so that runs have to be noted."""
        return len(self._used) > 1

    def begin(self, key: Key, now: float) -> None:
        """A conversation begins."""
        self._charge(now)
        self._used[key] = 0.0

    def end(self, key: Key, now: float) -> float:
        """It ends; returns its share."""
        self._charge(now)
        return self._used.pop(key, 0.0)

    def run_begins(self, key: Key, now: float) -> None:
        """A run of the draft model begins."""
        self._charge(now)
        self._running = key

    def run_ends(self, now: float) -> None:
        """It ends; without effect if its begin was not noted."""
        if self._running is not None:
            self._charge(now)
            self._running = None

    def _charge(self, now: float) -> None:
        seconds, self._at = now - self._at, now
        if self._running in self._used:
            self._used[self._running] += seconds  # pyright: ignore[reportArgumentType]
            return
        for key in self._used:
            self._used[key] += seconds / len(self._used)
