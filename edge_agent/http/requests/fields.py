"""Reads the fields of a JSON object, each with its type. Pure.

Law: what has the wrong type is refused with a message that names the field; what is absent or null is None.
"""

import json
import math
from collections.abc import Mapping
from typing import Any, cast

from edge_agent.http.api_errors import ApiError, invalid

Json = Mapping[str, Any]


def parse_object(body: bytes) -> Json:
    """The JSON object in a body; ApiError when it is none."""
    try:
        found: object = json.loads(body or b"null")
    except (ValueError, RecursionError) as error:
        raise invalid(f"the body is not valid JSON ({_reason(error)}): send a JSON object") from error
    if not isinstance(found, dict):
        raise invalid("the body must be a JSON object")
    return cast("Json", found)


def _reason(error: Exception) -> str:
    """Without what the client sent."""
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} at character {error.pos}"
    return "it is nested too deeply" if isinstance(error, RecursionError) else "a number or a byte"


class Fields:
    """The fields of one object; `at` is its name in messages, such as `hybrid_lm.`."""

    def __init__(self, found: Json, at: str = "") -> None:
        self.found = found
        self.at = at

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

    def flag(self, name: str) -> bool:
        """True or false; false when absent."""
        value = self.found.get(name)
        if value is None or isinstance(value, bool):
            return bool(value)
        raise self.wrong(name, "true or false")

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

    def inner(self, name: str) -> "Fields":
        """An object's fields; without any when absent."""
        value = self.found.get(name)
        if value is None:
            return Fields({}, f"{self.at}{name}.")
        if not isinstance(value, dict):
            raise self.wrong(name, "an object")
        return Fields(cast("Json", value), f"{self.at}{name}.")

    def wrong(self, name: str, expected: str) -> ApiError:
        """The error for a field of the wrong type."""
        return invalid(f"`{self.at}{name}` must be {expected}", f"{self.at}{name}")
