"""All sessions in one forward pass: their new tokens packed in one row, their pasts in one paged pool.

Law: it holds no more than its pool; a session that was evicted is computed again from its tokens.
"""

from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from transformers import PreTrainedModel

from cloud_worker.passes.forward_pass import Pass
from cloud_worker.passes.page_pool import PagePool
from cloud_worker.target_model.arrays import FloatRows, to_numpy
from cloud_worker.target_model.attention import NAME, Kernel, NotPackableError, Packed
from cloud_worker.target_model.layers import LayerShape, PagedLayer
from cloud_worker.target_model.row import Piece, order

PAGE_SIZE = 16


@dataclass(slots=True)
class _Job:
    """A pass on its way: the rows so far, over as many steps as its length needs."""

    one: Pass
    rows: list[FloatRows] = field(default_factory=list)
    done: bool = False

    @property
    def next_row(self) -> int:
        """The first position whose logits are still wanted."""
        return self.one.first_row + sum(len(rows) for rows in self.rows)


class PackedEngine:
    """Pages of a fixed pool, one forward pass of at most `chunk_tokens` new tokens a step."""

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
        """How many of them sessions hold."""
        return self._pool.num_pages - self._pool.num_free

    def cached_tokens(self, session: Hashable) -> int:
        """How many tokens of a session are cached."""
        return self._pool.cached_tokens(session)

    def num_missing(self, one: Pass) -> int:
        """How many positions a pass would compute now."""
        return len(one.tokens) - self._pool.find(one.session, one.tokens, one.first_row)

    def forget(self, session: Hashable) -> None:
        """Give a session's pages back; an unknown session is no error."""
        self._pool.release(session)

    def logits(self, passes: Sequence[Pass]) -> list[FloatRows]:
        """One array [num_rows, vocab_size] per pass, in order."""
        jobs = [_Job(one) for one in passes]
        while waiting := [job for job in jobs if not job.done]:
            if step := self._next_step(waiting):
                self._run(step)
            elif not waiting[0].done:
                raise RuntimeError(f"{len(waiting[0].one.tokens)} tokens do not fit into the pool")
        nothing = np.empty((0, self._vocab_size), np.float32)
        return [np.concatenate([nothing, *job.rows]) for job in jobs]

    def _next_step(self, waiting: Sequence[_Job]) -> list[tuple[_Job, Piece]]:
        """As many jobs, in turn, as the chunk and the pool take; the last one perhaps in part."""
        step: list[tuple[_Job, Piece]] = []
        room = self._chunk_tokens
        for job in waiting:
            piece = self._piece(job, room, pinned={other.one.session for other, _ in step})
            if piece is not None:
                step.append((job, piece))
                room -= len(piece.tokens)
            elif not job.done or room == 0:
                break
        return step

    def _piece(self, job: _Job, room: int, pinned: Collection[Hashable]) -> Piece | None:
        """A place for the next at most `room` tokens of a job; None without room, or when it is done."""
        session, tokens = job.one.session, job.one.tokens
        begin = self._pool.find(session, tokens, job.next_row)
        end = min(len(tokens), begin + room)
        if begin == end:
            job.done = begin == len(tokens)
            return None
        placement = self._pool.place(session, tokens[:end], begin, pinned, job.one.owner)
        if placement is None:
            return None
        for source, target in placement.copies:
            for layer in self._layers.values():
                layer.copy_page(source, target)
        return Piece(tokens[begin:end], begin, placement.pages, num_rows=max(0, end - job.next_row))

    def _run(self, step: Sequence[tuple[_Job, Piece]]) -> None:
        step = [step[index] for index in order([piece for _, piece in step])]
        rows = self._forward([piece for _, piece in step])
        for job, piece in step:
            self._pool.commit(job.one.session, job.one.tokens[: piece.end])
            job.done = piece.end == len(job.one.tokens)
            if piece.num_rows:
                job.rows.append(rows[: piece.num_rows])
            rows = rows[piece.num_rows :]

    def _forward(self, pieces: Sequence[Piece]) -> FloatRows:
        packed = Packed(pieces, PAGE_SIZE, self._layers, self.kernel)
        row = packed.row(self._model.device)
        output = self._model(
            input_ids=row.tokens,
            position_ids=row.positions,
            use_cache=False,
            logits_to_keep=row.wanted,
            packed=packed,
        )
        if output.logits.shape[1] != len(row.wanted):
            raise NotPackableError("a model that cannot choose the rows of its logits")
        return to_numpy(output.logits[0])
