"""Reads the fields of a JSON object, each with its type. Pure.

Law: what has the wrong type is refused with a message that names the field; what is absent or null is None.
Each way in makes its own error of the message.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Self, TypeAlias, cast

Json: TypeAlias = Mapping[str, Any]


class JsonFields(ABC):
    """The fields of one object; `at` is its name in messages, such as `hybrid_lm.`."""

    QUOTES = "''"  # around a name

    def __init__(self, found: Json, at: str = "") -> None:
        self.found = found
        self.at = at

    @abstractmethod
    def refusal(self, message: str, name: str) -> Exception:
        """The error for the field `name`, which has the name of the object before it."""

    def names(self) -> set[str]:
        """Those that are not null."""
        return {name for name, value in self.found.items() if value is not None}

    def text(self, name: str, *, most: int | None = None) -> str | None:
        """A text."""
        value = self.found.get(name)
        if value is None:
            return None
        if not isinstance(value, str):
            raise self.wrong(name, "a text")
        if most is not None and len(value) > most:
            raise self.wrong(name, f"a text of at most {most} characters")
        return value

    def switch(self, name: str) -> bool | None:
        """True or false."""
        value = self.found.get(name)
        if value is None or isinstance(value, bool):
            return value
        raise self.wrong(name, "true or false")

    def flag(self, name: str) -> bool:
        """True or false; false when absent."""
        return bool(self.switch(name))

    def whole(self, name: str) -> int | None:
        """A whole number; 3.0 is one."""
        value = self.found.get(name)
        if value is None or (isinstance(value, int) and not isinstance(value, bool)):
            return value
        if isinstance(value, float) and value.is_integer():
            return int(value)
        raise self.wrong(name, "a whole number")

    def number(self, name: str) -> float | None:
        """A finite number."""
        value = self.found.get(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.wrong(name, "a number")
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if not math.isfinite(number):
            raise self.wrong(name, "a finite number")
        return number

    def objects(self, name: str) -> list[Json] | None:
        """A list of objects."""
        value = self.found.get(name)
        if value is None:
            return None
        if not isinstance(value, list):
            raise self.wrong(name, "a list of objects")
        entries = cast("list[object]", value)
        if not all(isinstance(entry, dict) for entry in entries):
            raise self.wrong(name, "a list of objects")
        return cast("list[Json]", entries)

    def object(self, name: str) -> Json | None:
        """An object."""
        value = self.found.get(name)
        if value is None or isinstance(value, dict):
            return cast("Json | None", value)
        raise self.wrong(name, "an object")

    def texts(self, name: str, *, most: int, most_characters: int) -> list[str] | None:
        """A list of texts, or one text."""
        found: Any = self.found.get(name)
        if found is None:
            return None
        texts: list[Any] = [found] if isinstance(found, str) else found if isinstance(found, list) else [None]
        if not all(isinstance(one, str) for one in texts):
            raise self.wrong(name, "a text or a list of texts")
        if len(texts) > most or any(len(one) > most_characters for one in texts):
            raise self.wrong(name, f"at most {most} texts of at most {most_characters} characters")
        return texts

    def inner(self, name: str) -> Self:
        """An object's fields; without any when absent."""
        return type(self)(self.object(name) or {}, f"{self.at}{name}.")

    def wrong(self, name: str, expected: str) -> Exception:
        """The error for a field that must be something else."""
        return self.refusal(f"{self.quoted(name)} must be {expected}", f"{self.at}{name}")

    def quoted(self, name: str) -> str:
        """The name of a field in a message."""
        begin, end = self.QUOTES
        return f"{begin}{self.at}{name}{end}"
