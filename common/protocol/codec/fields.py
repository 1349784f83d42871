"""Typed, bounded reading of a map's fields; every mistake is a CodecError that names the field."""

from enum import IntEnum
from functools import cache
from typing import TypeVar, cast

from common.protocol.codec.errors import CodecError

Default = TypeVar("Default")


@cache
def _numbers(keys: type[IntEnum]) -> frozenset[int]:
    return frozenset(int(key) for key in keys)


class Fields:
    """The fields of one message of a `kind` ("draft", ...), whose keys are those of an IntEnum."""

    def __init__(self, kind: str, fields: dict[int, object], keys: type[IntEnum]) -> None:
        self._kind = kind
        self._fields = fields
        if not fields.keys() <= _numbers(keys):
            raise CodecError(f"a {kind} has no key {min(fields.keys() - _numbers(keys))}")

    def __contains__(self, key: IntEnum) -> bool:
        return int(key) in self._fields

    def integer(self, key: IntEnum, high: int, *, low: int = 0, default: int | None = None) -> int:
        """An integer from `low` to `high`; required when there is no default."""
        value = self._get(key, default)
        if type(value) is not int or not low <= value <= high:
            raise self.error(key, f"must be an integer from {low} to {high}")
        return value

    def number(self, key: IntEnum, default: float) -> float:
        """A float, or an integer in its place (as some encoders write whole numbers)."""
        value = self._get(key, default)
        if type(value) not in (int, float):
            raise self.error(key, "must be a number")
        return float(cast(float, value))

    def data(self, key: IntEnum, default: bytes | None = b"") -> bytes:
        """A byte string; required when the default is None."""
        value = self._get(key, default)
        if type(value) is not bytes:
            raise self.error(key, "must be a byte string")
        return value

    def text(self, key: IntEnum, max_chars: int, default: str | None = None) -> str:
        """A text string of at most `max_chars` characters; required when there is no default."""
        value = self._get(key, default)
        if type(value) is not str or len(value) > max_chars:
            raise self.error(key, f"must be a text string of at most {max_chars} characters")
        return value

    def numbers(self, key: IntEnum, count: int) -> list[int | float]:
        """An array of exactly `count` numbers; required."""
        value = self._get(key, None)
        found = cast(list[object], value) if type(value) is list else []
        if len(found) != count or any(type(one) not in (int, float) for one in found):
            raise self.error(key, f"must be an array of {count} numbers")
        return cast(list[int | float], found)

    def items(self, key: IntEnum, *counts: int) -> list[object]:
        """An array of one of `counts` items of any kind; required."""
        value = self._get(key, None)
        if type(value) is not list or len(cast(list[object], value)) not in counts:
            raise self.error(key, f"must be an array of {' or '.join(map(str, counts))} items")
        return cast(list[object], value)

    def entries(self, key: IntEnum, count: int) -> list[object]:
        """An array with exactly `count` entries; empty when absent."""
        if key not in self:
            return []
        value = self._fields[key]
        if type(value) is not list or len(cast(list[object], value)) != count:
            raise self.error(key, f"must be an array of {count} entries, one for each token of the block")
        return cast(list[object], value)

    def strings(self, key: IntEnum, max_count: int) -> list[bytes]:
        """An array of 1 to `max_count` byte strings."""
        value = self._get(key, None)
        items = cast(list[object], value) if type(value) is list else []
        strings = [item for item in items if type(item) is bytes]
        if not 1 <= len(strings) == len(items) <= max_count:
            raise self.error(key, f"must be an array of 1 to {max_count} byte strings")
        return strings

    def error(self, key: IntEnum, problem: str) -> CodecError:
        """The error for one field: "the draft's seed must be ..."."""
        return CodecError(f"the {self._kind}'s {key.name.lower()} {problem}")

    def _get(self, key: IntEnum, default: object) -> object:
        value = self._fields.get(key, default)
        if value is None:
            raise self.error(key, "is missing")
        return value


def shorten(fields: dict[int, object], defaults: dict[int, object]) -> dict[int, object]:
    """`fields` without those that equal their default, so that they cost no bytes."""
    return {key: value for key, value in fields.items() if key not in defaults or value != defaults[key]}
