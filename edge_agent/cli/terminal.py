"""Text on a terminal: final tokens coloured by where they came from, tentative ones dim until confirmed.

Law: no model and no worker can control the terminal, show a text in another order than it has, or hide text
in it: the characters that do are replaced or left out. What real scripts and emoji need stays. A pipe or a
file gets the text as it is. Tentative text never reaches a pipe or a file, never wraps and never
scrolls. It is shown after the cursor, on the rest of the line, so that one erasure removes all of it. Final
text is the same with or without it.
"""

import os
import shutil
import unicodedata
from collections.abc import Callable
from dataclasses import replace
from typing import TextIO

from edge_agent.generation.events import Emitted, Retraction, Tentative, Token
from edge_agent.session.transcript import Fate

RESET = "\x1b[0m"
COLOURS = {
    Fate.LOCAL: "\x1b[37m",  # grey
    Fate.VERIFIED: "\x1b[32m",  # green
    Fate.CORRECTED: "\x1b[1;31m",  # bold red
    Fate.TARGET: "\x1b[36m",  # cyan
    Fate.FORCED: "\x1b[34m",  # blue
    Fate.UNVERIFIED: "\x1b[33m",  # yellow
}
DIM = "\x1b[2m"
SAVE, RESTORE = "\x1b7", "\x1b8"  # the cursor
ERASE = "\x1b[K"  # to the end of the line
TAB = 8

_CONTROLS = {*range(0x20), *range(0x7F, 0xA0)} - {ord("\n"), ord("\t")}
# embeddings, overrides and isolates, which show a text in another order than it has, and their old relatives
_DIRECTIONS = {*range(0x202A, 0x202F), *range(0x2066, 0x2070)}
_BREAKS = {0x2028, 0x2029}  # lines and paragraphs end there in some terminals only
_HIDING = {*range(0xFFF9, 0xFFFC), *range(0xE0000, 0xE0080)}  # annotations, and tags: ASCII that is not shown
# these turn digits and punctuation around without being seen; Hebrew and Arabic stay legible without them
_MARKS = {0x061C, 0x200E, 0x200F}
_VISIBLE = {
    **dict.fromkeys(_CONTROLS | _DIRECTIONS | _BREAKS | _HIDING, "\N{REPLACEMENT CHARACTER}"),
    **dict.fromkeys(_MARKS, ""),
}


def coloured(token: Token) -> str:
    """The token's text in the colour of its fate; line breaks stay outside: some terminals fill lines."""
    return "\n".join(f"{COLOURS[token.fate]}{line}{RESET}" if line else "" for line in token.text.split("\n"))


def legend() -> str:
    """One line that explains the colours."""
    return "  ".join(f"{colour}{fate}{RESET}" for fate, colour in COLOURS.items())


def painter(stream: TextIO, *, shows_tokens: bool, shows_tentative: bool) -> Callable[[Emitted], str]:
    """Return what to write to `stream` for each event; tentative text only where it can be erased."""

    def paint(token: Token) -> str:
        if stream.isatty():
            token = replace(token, text=token.text.translate(_VISIBLE))
        return coloured(token) if shows_tokens else token.text

    if shows_tentative and stream.isatty() and os.environ.get("TERM", "dumb") != "dumb":
        return Screen(paint, lambda: shutil.get_terminal_size().columns).show
    return lambda event: paint(event) if isinstance(event, Token) else ""


class Screen:
    """What to write for each event, on lines of `num_columns()` cells; the text begins at the left."""

    def __init__(self, paint: Callable[[Token], str], num_columns: Callable[[], int]) -> None:
        self._paint = paint
        self._num_columns = num_columns
        self._column = 0
        self._ahead: list[str] = []
        self._is_dimmed = False

    def show(self, event: Emitted) -> str:
        """Return the characters that update the screen."""
        match event:
            case Tentative(text):
                self._ahead.append(text)
                return self._dimmed()
            case Retraction(_, num_tokens):
                del self._ahead[-num_tokens:]
                return self._erased() + self._dimmed()
            case Token(text):
                del self._ahead[:1]
                erased = self._erased()
                self._advance(text.translate(_VISIBLE))
                return erased + self._paint(event) + self._dimmed()

    def _erased(self) -> str:
        """Erase the tentative text. If there is none, the cursor may be on a cell of final text."""
        return ERASE if self._is_dimmed else ""

    def _dimmed(self) -> str:
        """The tentative text as far as it fits on the line; the last cell stays free, so nothing wraps."""
        free = self._num_columns() - 1 - self._column
        shown, width = "", 0
        for character in "".join(self._ahead):
            width += _width(character)
            if width > free or not character.isprintable():
                break
            shown += character
        self._is_dimmed = bool(shown)
        return f"{SAVE}{DIM}{shown}{RESET}{RESTORE}" if shown else ""

    def _advance(self, text: str) -> None:
        """Track the cursor as the terminal moves it."""
        num_columns = max(1, self._num_columns())
        for character in text:
            if character == "\n":
                self._column = 0
            elif character == "\t":
                self._column = min(num_columns - 1, (self._column // TAB + 1) * TAB)
            else:
                width = _width(character)
                full = self._column + width > num_columns
                self._column = width if full else self._column + width


def _width(character: str) -> int:
    """How many cells a character takes."""
    if unicodedata.category(character) in ("Mn", "Me", "Cf", "Cc"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1
