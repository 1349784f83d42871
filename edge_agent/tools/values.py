"""Finds whole JSON objects in a text that grows. Pure.

Law: each object is given once, when its last character is there, and only if it is valid JSON.
"""

import json

MAX_DEPTH = 64


class JsonObjects:
    """The objects on the top level of a list, or one after the other; `rest` is what no object has taken.

    `is_broken` is set by text that can belong to neither.
    """

    def __init__(self) -> None:
        self.is_broken = False
        self.is_closed = False  # the list has ended
        self.rest = ""  # of an object that is not whole, or after the end
        self._depth = 0
        self._is_text = False
        self._is_escaped = False

    @property
    def is_inside(self) -> bool:
        """Whether an object has begun that is not whole."""
        return self._depth > 0

    def push(self, text: str) -> list[str]:
        """The texts of the objects that `text` completes."""
        found: list[str] = []
        for number, character in enumerate(text):
            if self.is_broken or self.is_closed:
                self.rest += text[number:]
                break
            if self._depth == 0:
                self._begin(character)
            else:
                self.rest += character
                self._follow(character)
                if self._depth == 0:
                    found += self._whole()
        return found

    def _begin(self, character: str) -> None:
        if character == "{":
            self._depth, self.rest = 1, "{"
        elif character == "]":
            self.is_closed = True
        elif character not in "[,; \n\r\t":
            self.is_broken, self.rest = True, character

    def _follow(self, character: str) -> None:
        if self._is_escaped:
            self._is_escaped = False
        elif self._is_text:
            self._is_escaped = character == "\\"
            self._is_text = character != '"'
        elif character == '"':
            self._is_text = True
        elif character in "{[":
            self._depth += 1
            self.is_broken = self._depth > MAX_DEPTH
        elif character in "}]":
            self._depth -= 1

    def _whole(self) -> list[str]:
        try:
            json.loads(self.rest)
        except ValueError:
            self.is_broken = True
            return []
        whole, self.rest = self.rest, ""
        return [whole]
