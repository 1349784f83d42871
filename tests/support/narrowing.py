"""What a test knows and a type checker cannot: which kind a value has, and that it is there."""

from typing import TypeVar

T = TypeVar("T")


def expect(kind: type[T], value: object) -> T:
    """The value as the one kind that the test expects."""
    assert isinstance(value, kind), value
    return value


def present(value: T | None) -> T:
    """The value, which must be there."""
    assert value is not None
    return value
