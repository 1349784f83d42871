"""Reads calls that stand behind a mark as JSON objects, in a list or one after the other. Pure."""

import json
import re

from edge_agent.tools.call import Piece
from edge_agent.tools.call_format import call_of
from edge_agent.tools.hermes import num_safe
from edge_agent.tools.tool import ToolUse
from edge_agent.tools.values import JsonObjects

_CALL = re.compile(r'\{\s*("name"|$)')


class ObjectReader:
    """`mark` begins the calls; with `at_start`, so does a brace at the beginning of the answer."""

    def __init__(self, use: ToolUse, mark: str, arguments: str, *, at_start: bool = False) -> None:
        self._use = use
        self._mark = mark
        self._arguments = arguments
        self._at_start = at_start
        self._held = ""
        self._has_called = False
        self._objects: JsonObjects | None = None

    def push(self, text: str, special: str = "") -> list[Piece]:
        """See `Reader`."""
        if self._objects is not None:
            return self._read(text)
        if special == self._mark:
            return [*self._end_text(), *self._begin(text)]
        self._held += text
        before, mark, after = self._held.partition(self._mark)
        if mark:
            self._held = before
            return [*self._end_text(), *self._begin(after)]
        if self._at_start:
            begun = self._held.lstrip()
            if not begun:
                return []
            if begun[0] == "{":
                self._held = ""
                return self._begin(begun)
            self._at_start = False
        length = num_safe(self._held, self._mark)
        shown, self._held = self._held[:length], self._held[length:]
        return [shown] if shown else []

    def finish(self) -> list[Piece]:
        """Text that was held back; the beginning of a call that is cut off is none."""
        held, self._held = self._held, ""
        rest = "" if self._objects is None else self._objects.rest
        if rest and not self._has_called and not _CALL.match(rest):
            held += rest
        return [held] if held else []

    def _end_text(self) -> list[Piece]:
        held, self._held = self._held.rstrip(), ""
        self._at_start = False
        return [held] if held else []

    def _begin(self, text: str) -> list[Piece]:
        self._objects = JsonObjects()
        return self._read(text)

    def _read(self, text: str) -> list[Piece]:
        assert self._objects is not None
        pieces: list[Piece] = []
        for raw in self._objects.push(text):
            call = call_of(json.loads(raw), self._use, self._arguments)
            self._has_called |= call is not None
            pieces.append(raw if call is None else call)
        if self._objects.is_broken or self._objects.is_closed:
            rest, self._objects.rest = self._objects.rest, ""
            pieces += [rest] if rest.strip() else []
        return pieces
