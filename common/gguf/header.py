"""Reads the head of a GGUF file: its metadata, and where its tensors lie.

Law: the file may be truncated, foreign or hostile. Every count and length is checked against the bytes that
are there before anything is made of it, so memory stays in proportion to the head of the file. Each fault is
one GgufError. No weight is read.
"""

import mmap
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TypeAlias

from common.gguf.layout import ARRAY, DEFAULT_ALIGNMENT, MAGIC, SCALARS, STRING, VERSIONS, WEIGHT_TYPES

Value: TypeAlias = "bool | int | float | str | list[bool | int | float] | list[str]"

MAX_HEAD_BYTES = 256 << 20  # of all metadata; a vocabulary of 262,144 tokens needs 12 MB
MAX_ENTRIES = 1 << 16  # keys, or tensors
MAX_DIMENSIONS = 4
AGAIN = "download it again"


class GgufError(Exception):
    """The file cannot be used as a model; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor of the file: shape as in torch, number of its type, first byte and number of bytes."""

    shape: tuple[int, ...]
    weight_type: int
    start: int
    num_bytes: int


@dataclass(frozen=True, slots=True)
class Header:
    """What the head of the file at `path` says."""

    path: Path
    metadata: Mapping[str, Value]
    tensors: Mapping[str, Tensor]


def read_header(path: Path) -> Header:
    """Read the head of a GGUF file; GgufError if it is not whole, or not a GGUF file."""
    try:
        with path.open("rb") as file:
            if file.read(len(MAGIC)) != MAGIC:
                raise GgufError(f"{path} is not a GGUF file: choose another file, or {AGAIN}")
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                return _read(path, data)
    except OSError as error:
        raise GgufError(f"cannot read {path}: {error.strerror}") from error
    except (struct.error, OverflowError) as error:  # beyond the end
        raise GgufError(f"{path} is truncated or damaged: {AGAIN}") from error


def _read(path: Path, data: mmap.mmap) -> Header:
    reader = _Reader(path, data, len(MAGIC))
    version = reader.number("<I")
    if version not in VERSIONS:
        raise GgufError(f"{path} has GGUF version {version}, not 2 or 3: convert the model again")
    num_tensors, num_keys = reader.number("<Q"), reader.number("<Q")
    if max(num_tensors, num_keys) > MAX_ENTRIES:
        raise reader.damaged(f"it claims {num_tensors} tensors and {num_keys} keys")
    metadata: dict[str, Value] = {}
    for _ in range(num_keys):
        key = reader.text()
        metadata[key] = reader.value(reader.number("<I"))
    found = [(reader.text(), *reader.tensor()) for _ in range(num_tensors)]
    alignment = metadata.get("general.alignment", DEFAULT_ALIGNMENT)
    if not isinstance(alignment, int) or not 1 <= alignment <= 1 << 16:
        raise reader.damaged(f"its alignment is {str(alignment)[:20]}")
    data_start = -(-reader.position // alignment) * alignment
    tensors: dict[str, Tensor] = {}
    for name, shape, weight_type, offset in found:
        num_bytes = _num_bytes(reader, name, shape, weight_type)
        tensors[name] = Tensor(shape, weight_type, data_start + offset, num_bytes)
    end = max((tensor.start + tensor.num_bytes for tensor in tensors.values()), default=data_start)
    if end > len(data):
        raise GgufError(f"{path} is truncated: it has {len(data)} of {end} bytes: {AGAIN}")
    return Header(path, metadata, tensors)


def _num_bytes(reader: "_Reader", name: str, shape: tuple[int, ...], weight_type: int) -> int:
    stored = WEIGHT_TYPES.get(weight_type)
    if stored is None:
        raise GgufError(
            f"{reader.path} stores {name[:80]} as type {weight_type} of GGUF, which is not known here: "
            "choose another quantisation, for example Q4_K_M or Q8_0"
        )
    if not shape or shape[-1] % stored.block:
        raise reader.damaged(f"the shape of {name[:80]} is {list(shape)}")
    return prod(shape) // stored.block * stored.num_bytes


@dataclass(slots=True)
class _Reader:
    """Values one after the other; beyond the end, `struct` raises."""

    path: Path
    data: mmap.mmap
    position: int

    def number(self, form: str) -> int:
        """A whole number in the form of `struct`."""
        (found,) = struct.unpack_from(form, self.data, self.position)
        self.position += struct.calcsize(form)
        return found

    def text(self) -> str:
        """A string; bytes that are not UTF-8 are replaced."""
        return self._bytes(self.number("<Q")).decode("utf-8", "replace")

    def value(self, kind: int) -> Value:
        """A value of metadata."""
        if kind == STRING:
            return self.text()
        if kind == ARRAY:
            return self._array()
        if kind not in SCALARS:
            raise self.damaged(f"its metadata has a value of type {kind}")
        return self.number(SCALARS[kind])

    def tensor(self) -> tuple[tuple[int, ...], int, int]:
        """Shape as in torch, number of the type, and offset."""
        num_dimensions = self.number("<I")
        if num_dimensions > MAX_DIMENSIONS:
            raise self.damaged(f"a tensor has {num_dimensions} dimensions")
        shape = tuple(self.number("<Q") for _ in range(num_dimensions))
        return shape[::-1], self.number("<I"), self.number("<Q")

    def damaged(self, what: str) -> GgufError:
        """The error for a file that says something impossible."""
        return GgufError(f"{self.path} is damaged ({what}): {AGAIN}")

    def _array(self) -> "list[bool | int | float] | list[str]":
        kind, count = self.number("<I"), self.number("<Q")
        if kind == STRING:
            if count * 8 > MAX_HEAD_BYTES:
                raise self.damaged(f"a list has {count} texts")
            return [self.text() for _ in range(count)]
        if kind not in SCALARS:
            raise self.damaged(f"its metadata has a list of type {kind}")
        form = f"<{min(count, MAX_HEAD_BYTES)}{SCALARS[kind][1]}"
        values = self._bytes(struct.calcsize(form))
        return list(struct.unpack(form, values))

    def _bytes(self, count: int) -> bytes:
        if self.position + count > min(len(self.data), MAX_HEAD_BYTES):
            raise GgufError(f"{self.path} is truncated or damaged: {AGAIN}")
        self.position += count
        return self.data[self.position - count : self.position]
