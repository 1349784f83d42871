"""CUDA graphs for the sizes of forward passes that recur: one launch in place of hundreds.

A graph is recorded for a `Size`, which is rounded up; what a pass lacks of it is filled with tokens that
belong to no sequence and write to a page of their own. Law: a graph is used only after it has given the
logits of the ordinary forward pass; whatever goes wrong while one is recorded, passes run without graphs.
"""

import logging
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from cloud_worker.target_model.arrays import Integers
from cloud_worker.target_model.packed_tokens import PackedTokens, Piece, Spans, key_layout, layout

MIN_RECURRENCES = 4  # passes of a size before it is recorded, which takes as long as tens of passes
MAX_GRAPHS = 32
MAX_TOKENS = 512  # longer passes are bound by computing, not by launching
NUM_WARM_UPS = 2
TOLERANCE = 0.05  # of the largest logit: in 16 bits, other kernels may be chosen for a padded size

Forward = Callable[[PackedTokens], torch.Tensor]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Size:
    """What is fixed in a graph."""

    num_tokens: int
    num_rows: int
    num_pieces: int
    num_keys: int
    longest_new: int

    @classmethod
    def of(cls, pieces: Sequence[Piece]) -> "Size":
        """The size that holds these pieces."""
        longest = max(len(piece.tokens) for piece in pieces)
        return cls(
            num_tokens=_rounded(sum(len(piece.tokens) for piece in pieces), 8, steps=4),
            num_rows=_rounded(max(1, sum(piece.num_rows for piece in pieces)), 8, steps=4),
            num_pieces=_rounded(len(pieces), 1, steps=1),
            num_keys=_rounded(sum(piece.end for piece in pieces), 256, steps=2),
            longest_new=_rounded(longest, 8, steps=1),
        )


class FixedPass:
    """A forward pass of one size, the buffer that it reads, and its graph."""

    def __init__(self, size: Size, forward: Forward, page_size: int, logits: torch.Tensor) -> None:
        """`logits` is where the result goes; all graphs share it."""
        self._size = size
        device = logits.device
        lengths = self._lengths
        self._buffer = torch.zeros(sum(lengths), dtype=torch.long, device=device)
        parts = self._buffer.split(lengths)
        ids, positions, slots, wanted, query_ends, key_ends, self._key_slots = parts
        self._ends = (query_ends, key_ends)
        self._tokens = PackedTokens(ids[None], positions[None], slots, wanted, (), page_size)
        self._forward = forward
        self._graph: torch.cuda.CUDAGraph | None = None
        self._logits = logits[: size.num_rows]

    @property
    def _lengths(self) -> list[int]:
        size = self._size
        ends = size.num_pieces + 1
        return [*[size.num_tokens] * 3, size.num_rows, ends, ends, size.num_keys]

    def record(self, pool: Any) -> Any:
        """Record the forward pass over what the buffer holds; returns the memory pool, to be shared."""
        graph = torch.cuda.CUDAGraph()
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(NUM_WARM_UPS):
                self.run()
        torch.cuda.current_stream().wait_stream(side)
        with torch.cuda.graph(graph, pool=pool, capture_error_mode="thread_local"):
            self.run()
        self._graph = graph
        return graph.pool()

    def fill(self, pieces: Sequence[Piece], page_size: int, spare_slot: int) -> None:
        """Put a pass into the buffer, without waiting."""
        given = [*layout(pieces, page_size), *key_layout(pieces, page_size)]
        fillers = [0, 0, spare_slot, 0, int(given[4][-1]), int(given[5][-1]), 0]
        filled = [
            _filled(array, length, filler)
            for array, length, filler in zip(given, self._lengths, fillers, strict=True)
        ]
        host = torch.from_numpy(np.concatenate(filled))
        is_cuda = self._buffer.device.type == "cuda"
        self._buffer.copy_(host.pin_memory() if is_cuda else host, non_blocking=True)

    def replay(self, num_rows: int) -> torch.Tensor:
        """A copy of the logits [num_rows, vocab_size]: the next pass overwrites them."""
        if self._graph is None:
            raise RuntimeError("nothing has been recorded")
        self._graph.replay()
        return self._logits[:num_rows].clone()

    def run(self) -> torch.Tensor:
        """Run the pass without the graph; the logits of all rows, those that fill it up included."""
        query_ends, key_ends = self._ends
        spans = Spans(
            query_ends.int(), key_ends.int(), self._key_slots, self._size.longest_new, self._size.num_keys
        )
        self._tokens.use(spans)
        return self._logits.copy_(self._forward(self._tokens))


class Graphs:
    """The graphs of one model, the most recently used ones."""

    def __init__(self, forward: Forward, page_size: int, spare_slot: int) -> None:
        """`forward` computes logits [num_rows, vocab_size]; `spare_slot` of the cache belongs to no one."""
        self.num_replays = 0
        self.fault: str | None = None  # why no graphs are used
        self._forward, self._page_size, self._spare_slot = forward, page_size, spare_slot
        self._seen: Counter[Size] = Counter()
        self._graphs: OrderedDict[Size, FixedPass] = OrderedDict()
        self._pool: Any = None
        self._logits: torch.Tensor | None = None  # of the last graph that ran

    def run(self, pieces: Sequence[Piece], plainly: Callable[[], torch.Tensor]) -> torch.Tensor:
        """The logits [num_rows, vocab_size] of a pass: by a graph, or `plainly`."""
        num_rows = sum(piece.num_rows for piece in pieces)
        size = Size.of(pieces)
        if self.fault is not None or size.num_tokens > MAX_TOKENS:
            return plainly()
        graph = self._graphs.get(size)
        if graph is not None:
            self._graphs.move_to_end(size)
            graph.fill(pieces, self._page_size, self._spare_slot)
            self.num_replays += 1
            return graph.replay(num_rows)
        rows = plainly()
        self._seen[size] += 1
        if self._seen[size] >= MIN_RECURRENCES:
            self._record(size, pieces, rows)
        return rows

    def _record(self, size: Size, pieces: Sequence[Piece], expected: torch.Tensor) -> None:
        """Record a graph of this size and compare it with what the ordinary pass gave."""
        try:
            if self._logits is None:
                self._logits = expected.new_empty((MAX_TOKENS, expected.shape[1]))
            graph = FixedPass(size, self._forward, self._page_size, self._logits)
            graph.fill(pieces, self._page_size, self._spare_slot)
            self._pool = graph.record(self._pool)
            error = (graph.replay(len(expected)).float() - expected.float()).abs().max()
            worst = float(error / expected.float().abs().max()) if len(expected) else 0.0
        except Exception as error:  # noqa: BLE001 - models do many things that cannot be recorded
            self._give_up(f"{type(error).__name__}: {error}".split("\n")[0])
            return
        if not worst <= TOLERANCE:
            self._give_up(f"logits are off by {worst:.1%}")
            return
        self._graphs[size] = graph
        if len(self._graphs) > MAX_GRAPHS:
            oldest, _ = self._graphs.popitem(last=False)
            del self._seen[oldest]

    def _give_up(self, fault: str) -> None:
        self.fault = fault
        self._graphs.clear()
        _log.warning("no CUDA graphs for this model: %s", fault)


def _rounded(number: int, least: int, *, steps: int) -> int:
    """The number rounded up: `steps` sizes per doubling, at least `least` apart."""
    step = least if number <= least else max(least, (1 << ((number - 1).bit_length() - 1)) // steps)
    return -(-number // step) * step


def _filled(array: Integers, length: int, filler: int) -> Integers:
    return np.concatenate([array, np.full(length - len(array), filler, np.int64)])
