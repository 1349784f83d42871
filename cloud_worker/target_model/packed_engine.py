"""All sessions in one forward pass: their new tokens packed side by side, their caches in one pool of pages.

Law: it never uses more memory than its pool; an evicted session is computed again from its tokens.
"""

from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from transformers import PreTrainedModel

from cloud_worker.passes.forward_pass import Pass
from cloud_worker.passes.page_pool import PagePool
from cloud_worker.target_model.attention import NAME, Kernel, NotPackableError, PackedBatch
from cloud_worker.target_model.layers import LayerShape, PagedLayer
from cloud_worker.target_model.packed_tokens import Piece, order

PAGE_SIZE = 16


@dataclass(slots=True)
class _Progress:
    """A pass in progress, over as many steps as its length needs, and its rows so far."""

    one: Pass
    rows: list[torch.Tensor] = field(default_factory=list)
    done: bool = False

    @property
    def next_row(self) -> int:
        """The first position whose logits are still missing."""
        return self.one.first_row + sum(len(rows) for rows in self.rows)


class PackedEngine:
    """Caches in a fixed pool of pages; each step is a forward pass of at most `chunk_tokens` new tokens."""

    def __init__(
        self,
        model: PreTrainedModel,
        shapes: Mapping[int, LayerShape],
        vocab_size: int,
        max_tokens: int,
        chunk_tokens: int,
        kernel: Kernel,
    ) -> None:
        self._model = model
        self._vocab_size = vocab_size
        self._chunk_tokens = chunk_tokens
        self.kernel = kernel
        num_pages = max_tokens // PAGE_SIZE
        self._pool = PagePool(num_pages, PAGE_SIZE)
        self._layers = {index: PagedLayer(shape, num_pages, PAGE_SIZE) for index, shape in shapes.items()}
        model.set_attn_implementation(NAME)

    @property
    def num_sessions(self) -> int:
        """How many sessions hold pages."""
        return self._pool.num_sessions

    @property
    def num_pages(self) -> int:
        """How many pages the cache has."""
        return self._pool.num_pages

    @property
    def num_used_pages(self) -> int:
        """How many pages sessions use."""
        return self._pool.num_pages - self._pool.num_free

    def cached_tokens(self, session: Hashable) -> int:
        """How many tokens of a session are cached."""
        return self._pool.cached_tokens(session)

    def num_missing(self, one: Pass) -> int:
        """How many positions a pass would compute now."""
        return len(one.tokens) - self._pool.find(one.session, one.tokens, one.first_row)

    def forget(self, session: Hashable) -> None:
        """Free a session's pages; an unknown session is not an error."""
        self._pool.release(session)

    def rows(self, passes: Sequence[Pass]) -> list[torch.Tensor]:
        """The logits [num_rows, vocab_size] of each pass, in order."""
        all_passes = [_Progress(one) for one in passes]
        while waiting := [each for each in all_passes if not each.done]:
            if step := self._next_step(waiting):
                self._run(step)
            elif not waiting[0].done:
                raise RuntimeError(f"{len(waiting[0].one.tokens)} tokens do not fit into the pool")
        return [self._joined(each.rows) for each in all_passes]

    def _joined(self, rows: Sequence[torch.Tensor]) -> torch.Tensor:
        if len(rows) == 1:
            return rows[0]
        nothing = torch.empty((0, self._vocab_size), dtype=self._model.dtype, device=self._model.device)
        return torch.cat([nothing, *rows])

    def _next_step(self, waiting: Sequence[_Progress]) -> list[tuple[_Progress, Piece]]:
        """As many passes, in order, as fit the chunk and the pool; the last one perhaps in part."""
        step: list[tuple[_Progress, Piece]] = []
        room = self._chunk_tokens
        for each in waiting:
            piece = self._piece(each, room, pinned={other.one.session for other, _ in step})
            if piece is not None:
                step.append((each, piece))
                room -= len(piece.tokens)
            elif not each.done or room == 0:
                break
        return step

    def _piece(self, progress: _Progress, room: int, pinned: Collection[Hashable]) -> Piece | None:
        """Place up to `room` further tokens of a pass; None if there is no room or nothing left to do."""
        session, tokens = progress.one.session, progress.one.tokens
        begin = self._pool.find(session, tokens, progress.next_row)
        end = min(len(tokens), begin + room)
        if begin == end:
            progress.done = begin == len(tokens)
            return None
        placement = self._pool.place(session, tokens[:end], begin, pinned, progress.one.owner)
        if placement is None:
            return None
        for source, destination in placement.copies:
            for layer in self._layers.values():
                layer.copy_page(source, destination)
        return Piece(tokens[begin:end], begin, placement.pages, num_rows=max(0, end - progress.next_row))

    def _run(self, step: Sequence[tuple[_Progress, Piece]]) -> None:
        step = [step[index] for index in order([piece for _, piece in step])]
        rows = self._forward([piece for _, piece in step])
        for each, piece in step:
            self._pool.commit(each.one.session, each.one.tokens[: piece.end])
            each.done = piece.end == len(each.one.tokens)
            if piece.num_rows:
                each.rows.append(rows[: piece.num_rows])
            rows = rows[piece.num_rows :]

    def _forward(self, pieces: Sequence[Piece]) -> torch.Tensor:
        packed = PackedBatch(pieces, PAGE_SIZE, self._layers, self.kernel)
        tokens = packed.tokens_on(self._model.device)
        output = self._model(
            input_ids=tokens.ids,
            position_ids=tokens.positions,
            use_cache=False,
            logits_to_keep=tokens.wanted,
            packed=packed,
        )
        if output.logits.shape[1] != len(tokens.wanted):
            raise NotPackableError("a model that cannot select rows of its logits")
        return output.logits[0]
