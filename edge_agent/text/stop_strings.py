"""Stop strings: where a text is cut, however it is split into pieces.

Law: only the longest end that may still become a stop string is held back. The stop string that is complete
first wins, and of two that end together the longer one.
"""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class _Special:
    """A special token before the visible character `position` of what is held; it is not shown."""

    position: int
    text: str


class StopStrings:
    """Cuts a stream of text before the first stop string.

    A stop string may name special tokens by their texts, which are not part of the text that is shown. It
    covers such a token whole or not at all, and one without them matches as if they were not there.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        """Stop at any of `stops`; empty ones are ignored, and without any the text passes through."""
        self._stops = tuple(stop for stop in stops if stop)
        self._held = ""
        self._specials: tuple[_Special, ...] = ()
        self.stopped = False

    @property
    def can_stop(self) -> bool:
        """Whether there is anything to stop at."""
        return bool(self._stops)

    def push(self, text: str) -> str:
        """The part of the text so far that may be shown now; empty once `stopped`."""
        if self.stopped:
            return ""
        if not self._stops:
            return text
        self._held += text
        return self._released()

    def push_special(self, text: str) -> str:
        """As `push`, for a special token's text: it is never shown, and may complete a stop string."""
        if self.stopped or not self._stops:
            return ""
        self._specials += (_Special(len(self._held), text),)
        return self._released()

    def flush(self) -> str:
        """What was held back, at the end of the text."""
        shown, self._held = self._held, ""
        return shown

    def _released(self) -> str:
        spelled = _Spelled(self._held, self._specials)
        found = [
            (spelled.end_of(start + len(stop)), start)
            for stop in self._stops
            if (start := self._held.find(stop)) >= 0
        ] + [match for stop in self._stops if (match := spelled.find(stop)) is not None]
        if found:
            self.stopped = True
            shown, self._held, self._specials = self._held[: min(found)[1]], "", ()
            return shown
        split, specials = len(self._held) - self._num_open(self._held), ()
        if (start := spelled.open_from(self._stops)) is not None:
            position, specials = spelled.kept_from(start)
            split = min(split, position)
        shown, self._held = self._held[:split], self._held[split:]
        self._specials = tuple(_Special(special.position - split, special.text) for special in specials)
        return shown

    def _num_open(self, text: str) -> int:
        """The length of the longest end of `text` that begins a stop string."""
        longest = max(len(stop) - 1 for stop in self._stops)
        for length in range(min(longest, len(text)), 0, -1):
            if any(stop.startswith(text[-length:]) for stop in self._stops):
                return length
        return 0


class _Spelled:
    """Visible text with the texts of the special tokens in their places."""

    def __init__(self, visible: str, specials: Sequence[_Special]) -> None:
        self._specials = specials
        self._text = ""
        self._visible_at: dict[int, int] = {}  # where a match may begin or end -> visible characters before
        if not specials:
            return
        begin = 0
        for position, text in [*((one.position, one.text) for one in specials), (len(visible), "")]:
            for offset in range(begin, position + 1):
                self._visible_at[len(self._text) + offset - begin] = offset
            self._text += visible[begin:position] + text
            begin = position
        self._visible_at[len(self._text)] = len(visible)

    def end_of(self, num_visible: int) -> int:
        """Where the first `num_visible` visible characters end in the spelled text."""
        return num_visible + sum(len(one.text) for one in self._specials if one.position < num_visible)

    def find(self, stop: str) -> tuple[int, int] | None:
        """The end of the first match in the spelled text, and the visible characters before it."""
        start = self._text.find(stop)
        while start >= 0:
            end = start + len(stop)
            if start in self._visible_at and end in self._visible_at:
                return end, self._visible_at[start]
            start = self._text.find(stop, start + 1)
        return None

    def open_from(self, stops: Sequence[str]) -> int | None:
        """Where the longest end of the spelled text that begins a stop string starts."""
        starts = sorted(self._visible_at)[:-1]
        return next(
            (start for start in starts if any(stop.startswith(self._text[start:]) for stop in stops)), None
        )

    def kept_from(self, start: int) -> tuple[int, tuple[_Special, ...]]:
        """The visible characters before `start`, and the special tokens from there on."""
        kept: list[_Special] = []
        place = 0
        for special in self._specials:
            if special.position + place >= start:
                kept.append(special)
            place += len(special.text)
        return self._visible_at[start], tuple(kept)
