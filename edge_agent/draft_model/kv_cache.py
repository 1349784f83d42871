"""The draft model's key/value cache in its two forms: one buffer written in place, or tensors that grow.

Law: after `rewind(n)` the cache is what it was when it held n positions. Only the way to do it differs: a
shared buffer rewinds by lowering a number, growing tensors are cropped by copying.
"""

from typing import Protocol

import numpy as np

from edge_agent.draft_model.graph import CacheTensor
from edge_agent.draft_model.onnx_session import Array, Binding, Buffer, OnnxSession
from edge_agent.errors import ModelError

FIRST_CAPACITY = 256  # positions; doubles when full, so a small device pays only for what it uses


class Cache(Protocol):
    """What DraftModel needs from a cache. Positions 0 .. length - 1 are valid."""

    length: int

    def another(self) -> "Cache":
        """An empty cache for the same graph."""
        ...

    def bind(self, num_new: int) -> Binding:
        """Return the past, and the place for `num_new` more positions."""
        ...

    def keep(self, binding: Binding, num_new: int) -> None:
        """Keep what the run with `binding` wrote: `num_new` more positions."""
        ...

    def rewind(self, length: int) -> None:
        """Forget every position from `length` on."""
        ...

    def read(self, length: int) -> dict[str, Array]:
        """The first `length` positions of each tensor, by past name; not to be changed."""
        ...

    def load(self, arrays: dict[str, Array], length: int) -> None:
        """Hold these `length` positions in place of all others."""
        ...


class GrowingCache:
    """For graphs that return past and new positions together, in a new tensor each run."""

    def __init__(self, session: OnnxSession, tensors: tuple[CacheTensor, ...]) -> None:
        """Start empty."""
        self._session = session
        self._tensors = tensors
        self.length = 0
        self._past = {tensor.past: session.buffer(empty(tensor, 0)) for tensor in tensors}

    def another(self) -> "GrowingCache":
        """An empty one."""
        return GrowingCache(self._session, self._tensors)

    def bind(self, num_new: int) -> Binding:  # noqa: ARG002 (the graph makes room)
        """Return the past as it is, and new buffers."""
        return self._session.bind(self._past, {tensor.present: None for tensor in self._tensors})

    def keep(self, binding: Binding, num_new: int) -> None:
        """Use the present as the next past; raises ModelError when the graph has dropped old positions."""
        present = self._session.present(binding)
        length = self.length + num_new
        if any(present[tensor.present].shape()[2] != length for tensor in self._tensors):
            raise ModelError(
                "The graph keeps only a window of past positions, which cannot be rewound: choose a model "
                "without a sliding window, or a graph made by onnxruntime-genai."
            )
        self._past = {tensor.past: present[tensor.present] for tensor in self._tensors}
        self.length = length

    def rewind(self, length: int) -> None:
        """Copy the positions that stay."""
        if length == self.length:
            return
        for name, value in self._past.items():
            self._past[name] = self._session.buffer(value.numpy()[:, :, :length].copy())
        self.length = length

    def read(self, length: int) -> dict[str, Array]:
        """The first positions of the past."""
        return {name: value.numpy()[:, :, :length] for name, value in self._past.items()}

    def load(self, arrays: dict[str, Array], length: int) -> None:
        """Use them as the past."""
        self._past = {tensor.past: self._session.buffer(arrays[tensor.past]) for tensor in self._tensors}
        self.length = length


class SharedCache:
    """For graphs whose attention writes new positions into the buffer of the past.

    Capacity starts at `FIRST_CAPACITY` positions and doubles up to `max_positions`.
    """

    def __init__(self, session: OnnxSession, tensors: tuple[CacheTensor, ...], max_positions: int) -> None:
        """Start empty; the first run allocates memory."""
        self._session = session
        self._tensors = tensors
        self._max_positions = max_positions
        self._capacity = 0
        self._buffers: dict[str, Buffer] = {}
        self._binding: Binding | None = None
        self.length = 0

    def another(self) -> "SharedCache":
        """An empty one, which takes no memory yet."""
        return SharedCache(self._session, self._tensors, self._max_positions)

    def bind(self, num_new: int) -> Binding:
        """Return the buffers as past and present, grown first if they are too small."""
        needed = self.length + num_new
        if self._binding is None or needed > self._capacity:
            self._grow(min(self._max_positions, max(FIRST_CAPACITY, 1 << (needed - 1).bit_length())))
            present = {tensor.present: self._buffers[tensor.past] for tensor in self._tensors}
            self._binding = self._session.bind(self._buffers, present)
        return self._binding

    def keep(self, binding: Binding, num_new: int) -> None:  # noqa: ARG002 (written in place)
        """Count the new positions."""
        self.length += num_new

    def rewind(self, length: int) -> None:
        """Forget positions from `length` on: they are overwritten before they are read."""
        self.length = length

    def read(self, length: int) -> dict[str, Array]:
        """The first positions of the buffers."""
        return {name: value.numpy()[:, :, :length] for name, value in self._buffers.items()}

    def load(self, arrays: dict[str, Array], length: int) -> None:
        """Use them as buffers without room, which the next run makes."""
        self._buffers = {tensor.past: self._session.buffer(arrays[tensor.past]) for tensor in self._tensors}
        self._binding, self._capacity, self.length = None, length, length

    def _grow(self, capacity: int) -> None:
        for tensor in self._tensors:
            array = empty(tensor, capacity)
            if self.length:
                array[:, :, : self.length] = self._buffers[tensor.past].numpy()[:, :, : self.length]
            self._buffers[tensor.past] = self._session.buffer(array)
        self._capacity = capacity


def empty(tensor: CacheTensor, positions: int) -> Array:
    """An all-zero array with room for `positions` positions of one tensor."""
    return np.zeros((1, tensor.num_heads, positions, tensor.head_size), tensor.dtype)
