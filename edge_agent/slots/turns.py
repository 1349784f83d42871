"""Whose turn it is at the draft model, when several conversations wait for it. Pure.

A turn is one run: a token, or a part of a prompt that is being read.

Law: no one starves. A token waits for at most one run of a prompt, and for each other conversation's token
once. While tokens are wanted, prompts take half of the time, and are read in turns: a run of a prompt waits
for as much time as the last one took, or for `MOST_TOKENS`, and then only for tokens that were held up by
that run. Turns decide when the model works on a text, never what it computes.
"""

from collections.abc import Hashable
from typing import Generic, TypeVar

MOST_TOKENS = 128  # between two runs of prompts: as many as the longest run has

Key = TypeVar("Key", bound=Hashable)


class Turns(Generic[Key]):
    """Conversations that wait, each once; between `next` and `ended` one of them has the model."""

    def __init__(self) -> None:
        self._tokens: dict[Key, bool] = {}  # in order of arrival; True: held up by a run of a prompt
        self._prompts: dict[Key, None] = {}  # in order of arrival
        self._is_reading = False
        self._credit = 0.0  # seconds of tokens that go before the next run of a prompt
        self._num_tokens = 0  # since the last run of a prompt

    def wait(self, key: Key, *, reads: bool) -> None:
        """A conversation, which does not wait already, wants a run of its prompt, or a token."""
        if reads:
            self._prompts[key] = None
        else:
            self._tokens[key] = self._is_reading

    def leave(self, key: Key) -> bool:
        """It wants nothing more; returns whether it was waiting."""
        was_waiting = key in self._tokens or key in self._prompts
        self._tokens.pop(key, None)
        self._prompts.pop(key, None)
        return was_waiting

    def next(self) -> Key | None:
        """Begin the turn of the next one, if any waits; call `ended` after it."""
        if self._prompts and self._prompt_goes():
            key = next(iter(self._prompts))
            del self._prompts[key]
            self._is_reading = True
            self._tokens = dict.fromkeys(self._tokens, True)
            return key
        key = next(iter(self._tokens), None)
        if key is not None:
            del self._tokens[key]
        return key

    def ended(self, seconds: float) -> None:
        """The turn that was begun has taken so long."""
        if self._is_reading:
            self._is_reading, self._credit, self._num_tokens = False, seconds, 0
        else:
            self._credit -= seconds
            self._num_tokens += 1

    def _prompt_goes(self) -> bool:
        if not self._tokens:
            return True
        has_waited = self._credit <= 0 or self._num_tokens >= MOST_TOKENS
        return has_waited and not any(self._tokens.values())
