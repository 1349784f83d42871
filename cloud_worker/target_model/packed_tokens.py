"""The new tokens of many sequences side by side: what each may attend to, and which logits are wanted.

Law: a packed token attends to exactly the positions 0 .. its own of its own sequence. Everything is computed
once per forward pass and used by all layers.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, chain

import torch

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
    tails: torch.Tensor  # slots of the last pages after each sequence's end: fetched, and hidden by the mask
    wanted: torch.Tensor  # [R] indices of the tokens whose logits are wanted
    groups: tuple[Group, ...]  # of adjacent pieces
    pieces: Sequence[Piece]
    page_size: int
    _spans: list[Spans] = field(default_factory=list)

    def spans(self) -> Spans:
        """The layout for attention without padding; computed when first asked for."""
        if not self._spans:
            self._spans.append(_spans(self.pieces, self.page_size, self.slots.device))
        return self._spans[0]


def order(pieces: Sequence[Piece]) -> list[int]:
    """An order of the pieces in which similar ones are adjacent, as indices."""
    return sorted(range(len(pieces)), key=lambda i: (len(pieces[i].tokens).bit_length(), pieces[i].end))


def pack(pieces: Sequence[Piece], page_size: int, device: torch.device) -> PackedTokens:
    """Pack the pieces, in their order."""

    def tensor(values: Iterable[int]) -> torch.Tensor:
        return torch.tensor(list(values), dtype=torch.long, device=device)

    ends = list(accumulate(len(piece.tokens) for piece in pieces))
    wanted = [range(end - piece.num_rows, end) for piece, end in zip(pieces, ends, strict=True)]
    groups: list[Group] = []
    num_packed = 0
    for members in _similar(pieces):
        groups.append(_group(members, num_packed, page_size, device))
        num_packed += sum(len(piece.tokens) for piece in members)
    return PackedTokens(
        ids=tensor(chain.from_iterable(piece.tokens for piece in pieces))[None],
        positions=tensor(chain.from_iterable(range(piece.begin, piece.end) for piece in pieces))[None],
        slots=tensor(chain.from_iterable(_slots(piece, page_size) for piece in pieces)),
        tails=tensor(chain.from_iterable(_tail(piece, page_size) for piece in pieces)),
        wanted=tensor(chain.from_iterable(wanted)),
        groups=tuple(groups),
        pieces=pieces,
        page_size=page_size,
    )


def _slots(piece: Piece, page_size: int) -> Iterator[int]:
    for position in range(piece.begin, piece.end):
        yield piece.pages[position // page_size] * page_size + position % page_size


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


def _group(pieces: Sequence[Piece], start: int, page_size: int, device: torch.device) -> Group:
    """A group whose first token is packed token `start`."""
    longest = max(len(piece.tokens) for piece in pieces)
    num_pages = max(-(-piece.end // page_size) for piece in pieces)
    queries: list[int] = []
    kept: list[int] = []
    positions: list[list[int]] = []
    tables: list[int] = []
    for piece in pieces:
        num_new, num_padding = len(piece.tokens), longest - len(piece.tokens)
        kept += range(len(queries), len(queries) + num_new)
        queries += [*range(start, start + num_new), *[start] * num_padding]
        positions.append([*range(piece.begin, piece.end), *[piece.begin] * num_padding])
        table = piece.pages[: -(-piece.end // page_size)]
        tables += [*table, *table[:1] * (num_pages - len(table))]
        start += num_new
    return Group(
        queries=torch.tensor(queries, device=device),
        kept=torch.tensor(kept, device=device),
        tables=torch.tensor(tables, device=device),
        positions=torch.tensor(positions, device=device),
        page_size=page_size,
    )


def _spans(pieces: Sequence[Piece], page_size: int, device: torch.device) -> Spans:
    def ends(lengths: Iterable[int]) -> torch.Tensor:
        return torch.tensor(list(accumulate(lengths, initial=0)), dtype=torch.int32, device=device)

    offsets = torch.arange(page_size)
    slots = [(torch.tensor(one.pages)[:, None] * page_size + offsets).flatten()[: one.end] for one in pieces]
    return Spans(
        query_ends=ends(len(piece.tokens) for piece in pieces),
        key_ends=ends(piece.end for piece in pieces),
        key_slots=torch.cat(slots).to(device),
        longest_new=max(len(piece.tokens) for piece in pieces),
        longest=max(piece.end for piece in pieces),
    )
