"""One file of the prompt cache: the tokens that a draft model has read, and its keys and values.

Law: what is read back is what was written, or nothing: the file has a checksum, and belongs to this user
alone. It names the graph that made it (`fingerprint`) and the tensors it has.

    magic | length of the header | header in JSON | tokens | keys and values, tensor by tensor | checksum
"""

import hashlib
import json
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from edge_agent.draft_model.graph import CacheTensor
from edge_agent.draft_model.onnx_session import Array

MAGIC = b"hlm-prompt-1\n"
MAX_HEADER = 1 << 20
MAX_TOKENS = 1 << 24
_CHECKSUM = 16
_BLOCK = 1 << 20
_FAILURES = (OSError, ValueError, KeyError, TypeError, RecursionError)


class PromptFileError(Exception):
    """The file cannot be used, and why."""


@dataclass(frozen=True, slots=True)
class Layout:
    """What files of one graph have in common."""

    fingerprint: str
    tensors: tuple[CacheTensor, ...]

    @property
    def position_bytes(self) -> int:
        """Bytes of the keys and values of one token."""
        return sum(one.num_heads * one.head_size * np.dtype(one.dtype).itemsize for one in self.tensors)

    def header(self, num_tokens: int) -> bytes:
        """The beginning of a file for so many tokens."""
        tensors = [[one.past, one.num_heads, one.head_size, np.dtype(one.dtype).name] for one in self.tensors]
        fields = {"fingerprint": self.fingerprint, "num_tokens": num_tokens, "tensors": tensors}
        text = json.dumps(fields).encode()
        return MAGIC + len(text).to_bytes(4, "little") + text

    def size(self, num_tokens: int) -> int:
        """Bytes of a file for so many tokens."""
        return len(self.header(num_tokens)) + num_tokens * (4 + self.position_bytes) + _CHECKSUM


def write_prompt(stream: BinaryIO, layout: Layout, tokens: Sequence[int], arrays: dict[str, Array]) -> None:
    """Write `arrays` by past name, each [1, num_heads, len(tokens), head_size]."""
    digest = hashlib.blake2b(digest_size=_CHECKSUM)
    parts = (np.ascontiguousarray(arrays[one.past]).data.cast("B") for one in layout.tensors)
    for part in (layout.header(len(tokens)), np.asarray(tokens, "<u4").tobytes(), *parts):
        digest.update(part)
        stream.write(part)
    stream.write(digest.digest())


def read_tokens(path: Path, layout: Layout) -> list[int]:
    """The tokens of a file, whose checksum is not verified; raises PromptFileError."""
    try:
        with _open(path) as stream:
            return _tokens(stream, layout)
    except _FAILURES as error:
        raise PromptFileError(str(error)) from error


def read_prompt(path: Path, layout: Layout, num_tokens: int) -> dict[str, Array]:
    """The keys and values of the first `num_tokens` tokens of a file; raises PromptFileError."""
    try:
        with _open(path) as stream:
            _verify(stream)
            stream.seek(0)
            length = len(_tokens(stream, layout))
            return {one.past: _beginning(stream, one, length, num_tokens) for one in layout.tensors}
    except _FAILURES as error:
        raise PromptFileError(str(error)) from error


def _open(path: Path) -> BinaryIO:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o022:
        os.close(descriptor)
        raise ValueError("it is not a file that only this user can write")
    return os.fdopen(descriptor, "rb")


def _tokens(stream: BinaryIO, layout: Layout) -> list[int]:
    """The tokens; the stream then stands before the keys and values."""
    if stream.read(len(MAGIC)) != MAGIC:
        raise ValueError("it is not a prompt of this format")
    size = int.from_bytes(stream.read(4), "little")
    if size > MAX_HEADER:
        raise ValueError("its header is too long")
    fields: dict[str, Any] = json.loads(stream.read(size))
    num_tokens = int(fields["num_tokens"])
    if not 0 < num_tokens <= MAX_TOKENS:
        raise ValueError("it has no sensible number of tokens")
    stream.seek(0)
    header = layout.header(num_tokens)
    if stream.read(len(header)) != header:
        raise ValueError("it belongs to another graph")
    if os.fstat(stream.fileno()).st_size != layout.size(num_tokens):
        raise ValueError("it is not complete")
    return np.frombuffer(stream.read(4 * num_tokens), "<u4").tolist()


def _verify(stream: BinaryIO) -> None:
    left = os.fstat(stream.fileno()).st_size - _CHECKSUM
    digest = hashlib.blake2b(digest_size=_CHECKSUM)
    while left > 0 and (block := stream.read(min(left, _BLOCK))):
        digest.update(block)
        left -= len(block)
    if stream.read() != digest.digest():
        raise ValueError("its checksum is wrong")


def _beginning(stream: BinaryIO, tensor: CacheTensor, length: int, num_tokens: int) -> Array:
    shape = (1, tensor.num_heads, length, tensor.head_size)
    whole = np.frombuffer(stream.read(int(np.prod(shape)) * np.dtype(tensor.dtype).itemsize), tensor.dtype)
    return whole.reshape(shape)[:, :, :num_tokens].copy()
