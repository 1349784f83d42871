"""Where a stop string ends the text, as assumed now. Pure.

Law: the text that a stop string is looked for in is that of the tokens, in their order. So the end does not
depend on when they were drafted, verified or handed out.
"""

from collections.abc import Sequence
from copy import copy
from typing import Protocol, Self


class Decoder(Protocol):
    """Tokens to text that may complete a stop string; a copy continues independently."""

    @property
    def stopped(self) -> bool:
        """Whether a stop string is complete."""
        ...

    def push(self, token: int) -> str:
        """The text that the token completes."""
        ...

    def flush(self) -> str:
        """The text that was held back, at the end."""
        ...

    def __copy__(self) -> Self:
        """An independent decoder that continues from here."""
        ...


class Stopping:
    """Follows the final tokens with one decoder, and those assumed after them with a copy."""

    def __init__(self, decoder: Decoder) -> None:
        """`decoder` continues the prompt."""
        self._decoder = decoder
        self._ahead = copy(decoder)
        self._followed: list[int] = []  # the tokens that `_ahead` has taken in beyond the final ones

    def settle(self, token: int) -> bool:
        """Take in a final token; returns whether it completes a stop string."""
        self._decoder.push(token)
        if self._followed[:1] == [token]:
            del self._followed[0]
        else:
            self._restart()
        return self._decoder.stopped

    def is_complete(self, tail: Sequence[int]) -> bool:
        """Whether the tokens assumed after the final ones complete a stop string."""
        if list(tail[: len(self._followed)]) != self._followed:
            self._restart()
        for token in tail[len(self._followed) :]:
            if self._ahead.stopped:
                break
            self._followed.append(token)
            self._ahead.push(token)
        return self._ahead.stopped

    def is_complete_at_end(self) -> bool:
        """Whether what is held back completes a stop string, if no token follows the final ones."""
        last = copy(self._decoder)
        last.flush()
        return last.stopped

    def _restart(self) -> None:
        self._ahead = copy(self._decoder)
        self._followed = []
