"""The new tokens of many sequences side by side: what each may attend to, and which logits are wanted.

Law: a packed token attends to exactly the positions 0 .. its own of its own sequence. Everything is computed
once per forward pass and used by all layers.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

import numpy as np
import torch

from cloud_worker.target_model.arrays import Integers, together

FETCH_COST = 8  # fetching a position's key and value costs about as much as this many queries on it
MAX_WASTE = 1.3  # padding may multiply the cost by this ...
CALL_COST = 10_000  # ... and add the cost of one more call of the attention


@dataclass(frozen=True, slots=True)
class Piece:
    """The new tokens of one sequence, positions `begin` .. end - 1, and the pages for 0 .. end - 1."""

    tokens: Sequence[int]
    begin: int
    pages: tuple[int, ...]
    num_rows: int  # of logits, for the last tokens

    @property
    def end(self) -> int:
        """The length of the sequence after this piece."""
        return self.begin + len(self.tokens)

    @property
    def cost(self) -> int:
        """Attention work, in query-key pairs."""
        return (len(self.tokens) + FETCH_COST) * self.end


@dataclass(slots=True)
class Group:
    """Pieces of similar size, padded to a common size: B pieces, n new tokens, m pages."""

    queries: torch.Tensor  # [B * n] indices of packed tokens; a short piece repeats its first token
    kept: torch.Tensor  # [T'] indices in `queries` without the repetitions, in packed order
    tables: torch.Tensor  # [B * m] pages; a short table repeats its own first page
    positions: torch.Tensor  # [B, n] of the queries
    page_size: int
    _masks: dict[tuple[int, int], torch.Tensor] = field(default_factory=dict)

    def mask(self, window: int, num_shared: int, dtype: torch.dtype) -> torch.Tensor:
        """[B, 1, num_shared * n, m * page_size]: 0 where a query may attend, else -inf; window 0: none.

        `num_shared` is the number of query heads per key head.
        """
        made = self._masks.get((window, num_shared))
        if made is None:
            made = self._masks[window, num_shared] = self._make_mask(window, num_shared, dtype)
        return made

    def _make_mask(self, window: int, num_shared: int, dtype: torch.dtype) -> torch.Tensor:
        num_keys = len(self.tables) // len(self.positions) * self.page_size
        keys = torch.arange(num_keys, device=self.tables.device)
        queries = self.positions[:, None, :, None]
        hidden = keys > queries
        if window:
            hidden |= keys <= queries - window
        mask = torch.zeros(hidden.shape, dtype=dtype, device=hidden.device).masked_fill_(
            hidden, float("-inf")
        )
        return mask.repeat(1, 1, num_shared, 1)


@dataclass(frozen=True, slots=True)
class Padding:
    """Groups of adjacent pieces, and what their pages hold that must be hidden."""

    groups: tuple[Group, ...]
    tails: torch.Tensor  # slots of the last pages after each sequence's end: fetched, and hidden by the mask


@dataclass(frozen=True, slots=True)
class Spans:
    """Where each of N pieces ends, among the packed tokens and among all positions of all pieces."""

    query_ends: torch.Tensor  # [N + 1] int32, from 0
    key_ends: torch.Tensor  # [N + 1] int32, from 0
    key_slots: torch.Tensor  # [all positions] page * page_size + offset
    longest_new: int
    longest: int


@dataclass(frozen=True, slots=True)
class PackedTokens:
    """All pieces side by side: T tokens in one sequence."""

    ids: torch.Tensor  # [1, T]
    positions: torch.Tensor  # [1, T]
    slots: torch.Tensor  # [T] where keys and values are written: page * page_size + offset
    wanted: torch.Tensor  # [R] indices of the tokens whose logits are wanted
    pieces: Sequence[Piece]
    page_size: int
    _spans: list[Spans] = field(default_factory=list)
    _padding: list[Padding] = field(default_factory=list)

    def spans(self) -> Spans:
        """The layout for attention without padding; computed when first asked for."""
        if not self._spans:
            self._spans.append(_spans(self.pieces, self.page_size, self.slots.device))
        return self._spans[0]

    def padding(self) -> Padding:
        """The layout for attention with padding; computed when first asked for."""
        if not self._padding:
            self._padding.append(_padding(self.pieces, self.page_size, self.slots.device))
        return self._padding[0]


def order(pieces: Sequence[Piece]) -> list[int]:
    """An order of the pieces in which similar ones are adjacent, as indices."""
    return sorted(range(len(pieces)), key=lambda i: (len(pieces[i].tokens).bit_length(), pieces[i].end))


def pack(pieces: Sequence[Piece], page_size: int, device: torch.device) -> PackedTokens:
    """Pack the pieces, in their order."""
    ids, positions, slots, wanted = together(layout(pieces, page_size), device)
    return PackedTokens(ids[None], positions[None], slots, wanted, pieces, page_size)


def layout(pieces: Sequence[Piece], page_size: int) -> list[Integers]:
    """The ids, positions and slots of the packed tokens, and the indices of the wanted ones."""
    ends = accumulate(len(piece.tokens) for piece in pieces)
    return [
        np.concatenate([np.asarray(piece.tokens, np.int64) for piece in pieces]),
        np.concatenate([np.arange(piece.begin, piece.end) for piece in pieces]),
        np.concatenate([slots_of(piece, piece.begin, page_size) for piece in pieces]),
        np.concatenate([np.arange(end - one.num_rows, end) for one, end in zip(pieces, ends, strict=True)]),
    ]


def slots_of(piece: Piece, begin: int, page_size: int) -> Integers:
    """Where the positions begin .. end - 1 of a piece's sequence lie."""
    positions = np.arange(begin, piece.end)
    return np.asarray(piece.pages, np.int64)[positions // page_size] * page_size + positions % page_size


def key_layout(pieces: Sequence[Piece], page_size: int) -> list[Integers]:
    """Where each piece ends among the packed tokens and among all positions, and where these lie."""
    return [
        np.cumsum([0, *(len(piece.tokens) for piece in pieces)]),
        np.cumsum([0, *(piece.end for piece in pieces)]),
        np.concatenate([slots_of(piece, 0, page_size) for piece in pieces]),
    ]


def _tail(piece: Piece, page_size: int) -> range:
    last = piece.pages[(piece.end - 1) // page_size]
    return range(last * page_size + (piece.end - 1) % page_size + 1, (last + 1) * page_size)


def _similar(pieces: Sequence[Piece]) -> Iterator[list[Piece]]:
    """Runs of adjacent pieces that waste little when padded to the largest of them."""
    run: list[Piece] = []
    for piece in pieces:
        if (
            run
            and _padded_cost([*run, piece]) > MAX_WASTE * sum(one.cost for one in [*run, piece]) + CALL_COST
        ):
            yield run
            run = []
        run.append(piece)
    yield run


def _padded_cost(pieces: Sequence[Piece]) -> int:
    longest = max(len(piece.tokens) for piece in pieces)
    return len(pieces) * (longest + FETCH_COST) * max(piece.end for piece in pieces)


def _padding(pieces: Sequence[Piece], page_size: int, device: torch.device) -> Padding:
    """The groups and the tails, in one copy to the device."""
    arrays: list[Integers] = [np.array([slot for one in pieces for slot in _tail(one, page_size)], np.int64)]
    num_packed = 0
    shapes: list[int] = []
    for members in _similar(pieces):
        arrays += _group(members, num_packed, page_size)
        shapes.append(len(members))
        num_packed += sum(len(piece.tokens) for piece in members)
    tails, *sent = together(arrays, device)
    groups = [
        Group(queries, kept, tables, positions.view(num_pieces, -1), page_size)
        for num_pieces, (queries, kept, tables, positions) in zip(shapes, batched(sent, 4), strict=True)
    ]
    return Padding(tuple(groups), tails)


def batched(tensors: Sequence[torch.Tensor], count: int) -> Iterator[Sequence[torch.Tensor]]:
    """Parts of `count` each."""
    for begin in range(0, len(tensors), count):
        yield tensors[begin : begin + count]


def _group(pieces: Sequence[Piece], start: int, page_size: int) -> list[Integers]:
    """The arrays of a group whose first token is packed token `start`, as in `Group`."""
    longest = max(len(piece.tokens) for piece in pieces)
    num_pages = max(-(-piece.end // page_size) for piece in pieces)
    queries: list[int] = []
    kept: list[int] = []
    positions: list[int] = []
    tables: list[int] = []
    for piece in pieces:
        num_new, num_padding = len(piece.tokens), longest - len(piece.tokens)
        kept += range(len(queries), len(queries) + num_new)
        queries += [*range(start, start + num_new), *[start] * num_padding]
        positions += [*range(piece.begin, piece.end), *[piece.begin] * num_padding]
        table = piece.pages[: -(-piece.end // page_size)]
        tables += [*table, *table[:1] * (num_pages - len(table))]
        start += num_new
    return [np.array(each, np.int64) for each in (queries, kept, tables, positions)]


def _spans(pieces: Sequence[Piece], page_size: int, device: torch.device) -> Spans:
    query_ends, key_ends, key_slots = together(key_layout(pieces, page_size), device)
    return Spans(
        query_ends=query_ends.int(),
        key_ends=key_ends.int(),
        key_slots=key_slots,
        longest_new=max(len(piece.tokens) for piece in pieces),
        longest=max(piece.end for piece in pieces),
    )
