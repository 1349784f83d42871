"""The asks that were answered lately: for repeats of the same ask, and against loops. Pure.

Law: an ask that comes twice (QoS 1, or an app that asks again after a fault) is answered once, and the second
time from memory. An ask is the same if id and content are: an app that counts from 1 again after a restart
gets new answers. A prompt that is the text of an answer, of which the prompt was the text of an answer, and
so on, is an app that feeds answers back: it ends after `MAX_ECHOES`. Memory is bounded.
"""

from collections import OrderedDict
from dataclasses import dataclass

SECONDS = 60.0
MAX_ANSWERS = 128
MAX_BYTES = 1024 * 1024
MAX_ECHOES = 4


@dataclass(frozen=True, slots=True)
class Remembered:
    """One answer; `payload` is the message as it was sent."""

    payload: bytes
    text: str
    num_echoes: int
    until: float


class Answered:
    """Keyed by what tells asks apart; times are seconds on the caller's clock."""

    def __init__(self, max_answers: int = MAX_ANSWERS, max_bytes: int = MAX_BYTES) -> None:
        self._max_answers, self._max_bytes = max_answers, max_bytes
        self._answers: OrderedDict[str, Remembered] = OrderedDict()
        self._num_bytes = 0

    def add(self, key: str, payload: bytes, text: str, num_echoes: int, now: float) -> None:
        """Remember an answer that was given."""
        self._forget(key)
        self._answers[key] = Remembered(payload, text, num_echoes, now + SECONDS)
        self._num_bytes += len(payload)
        while len(self._answers) > self._max_answers or self._num_bytes > self._max_bytes:
            self._forget(next(iter(self._answers)))

    def find(self, key: str, now: float) -> bytes | None:
        """The answer that this ask got, if that was lately."""
        self._expire(now)
        found = self._answers.get(key)
        return None if found is None else found.payload

    def num_echoes(self, prompt: str, now: float) -> int:
        """How many answers in a row have led to this prompt: 0 if it is the text of none."""
        self._expire(now)
        text = prompt.strip()
        return max(
            (one.num_echoes + 1 for one in self._answers.values() if one.text.strip() == text), default=0
        )

    def __len__(self) -> int:
        return len(self._answers)

    def _expire(self, now: float) -> None:
        while self._answers:
            key, oldest = next(iter(self._answers.items()))
            if oldest.until > now:
                return
            self._forget(key)

    def _forget(self, key: str) -> None:
        if key in self._answers:
            self._num_bytes -= len(self._answers.pop(key).payload)
