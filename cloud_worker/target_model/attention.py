"""Attention over a paged pool of keys and values, called by transformers' models in place of their own.

Law: a model that asks for anything but causal attention, with or without a sliding window, is refused
(`NotPackableError`), never served something else: attention sinks, capped scores, position biases, chunks.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod

import numpy as np
import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface

from cloud_worker.target_model.layers import LayerShape
from cloud_worker.target_model.packing import Group, Piece, Row, pack

NAME = "hybrid_packed"
HARMLESS = frozenset({"sliding_window", "position_ids", "use_cache"})  # and whatever begins with output_
NO_WINDOW = 0


class NotPackableError(NotImplementedError):
    """The model's attention is more than this function knows."""


class PagedLayer:
    """The keys and values of one layer, [num_pages * page_size, num_heads, dim] each."""

    def __init__(self, shape: LayerShape, num_slots: int) -> None:
        self.keys = _zeros((num_slots, shape.num_heads, shape.key_dim), shape)
        self.values = _zeros((num_slots, shape.num_heads, shape.value_dim), shape)

    def copy_page(self, source: int, target: int, page_size: int) -> None:
        """Copy all entries of a page to another."""
        for pool in (self.keys, self.values):
            pages = pool.view(-1, page_size, *pool.shape[1:])
            pages[target] = pages[source]


@dataclass(frozen=True, slots=True)
class Packed:
    """What one forward pass hands to every layer: the pieces of its row, and the pool by layer index."""

    pieces: Sequence[Piece]
    page_size: int
    layers: Mapping[int, PagedLayer]
    _rows: dict[torch.device, Row] = field(default_factory=dict)

    def row(self, device: torch.device) -> Row:
        """The packed row on a layer's device."""
        if device not in self._rows:
            self._rows[device] = pack(self.pieces, self.page_size, device)
        return self._rows[device]


def attend(
    module: torch.nn.Module,
    query: torch.Tensor,  # [1, Hq, T, D]
    key: torch.Tensor,  # [1, H, T, D]
    value: torch.Tensor,  # [1, H, T, Dv]
    attention_mask: int,
    *,
    packed: Packed,
    scaling: float | None = None,
    dropout: float = 0.0,
    is_causal: bool | None = None,
    **extra: object,
) -> tuple[torch.Tensor, None]:
    """Write the new keys and values, then attend over the pool. Returns [1, T, Hq, Dv].

    `attention_mask` is the window of this layer, as `mask` gave it to the model.
    """
    unknown = [name for name, given in extra.items() if given is not None and name not in HARMLESS]
    unknown = [name for name in unknown if not name.startswith("output_")]
    if unknown or dropout or is_causal is False or type(attention_mask) is not int:
        raise NotPackableError(f"attention with {', '.join(unknown) or 'an unknown mask'}")
    layer = packed.layers[int(module.layer_idx)]  # pyright: ignore[reportArgumentType]
    row = packed.row(query.device)
    layer.keys.index_copy_(0, row.slots, key[0].transpose(0, 1))
    layer.values.index_copy_(0, row.slots, value[0].transpose(0, 1))
    rows = [_attend_group(query[0], layer, group, attention_mask, scaling) for group in row.groups]
    return torch.cat(rows)[None], None


def _attend_group(
    query: torch.Tensor, layer: PagedLayer, group: Group, window: int, scaling: float | None
) -> torch.Tensor:
    """[T', Hq, Dv] for a group's tokens. The query heads of one key head become rows of one matrix."""
    num_pieces, num_new = group.positions.shape
    num_heads, dim = layer.keys.shape[1:]
    num_shared = query.shape[0] // num_heads  # query heads per key head
    queries = query.index_select(1, group.queries).view(num_heads, num_shared, num_pieces, num_new, dim)
    queries = queries.permute(2, 0, 1, 3, 4).reshape(num_pieces, num_heads, num_shared * num_new, dim)
    out = scaled_dot_product_attention(
        queries,
        _fetch(layer.keys, group),
        _fetch(layer.values, group),
        attn_mask=group.mask(window, num_shared, query.dtype),
        scale=scaling,
    )
    out = out.view(num_pieces, num_heads, num_shared, num_new, -1).permute(0, 3, 1, 2, 4)
    return out.reshape(num_pieces * num_new, num_heads * num_shared, -1).index_select(0, group.places)


def _fetch(pool: torch.Tensor, group: Group) -> torch.Tensor:
    """A group's keys or values, [B, H, m * page_size, dim]."""
    pages = pool.view(-1, group.page_size, *pool.shape[1:]).index_select(0, group.tables)
    return pages.view(len(group.positions), -1, *pool.shape[1:]).transpose(1, 2)


def mask(*, local_size: int | None = None, use_vmap: bool = False, **_: object) -> int:
    """In place of a mask tensor, the window of a layer. `use_vmap` marks a mask of the model's own making."""
    if use_vmap:
        raise NotPackableError("a mask of the model's own making")
    return local_size or NO_WINDOW


def _zeros(size: tuple[int, ...], shape: LayerShape) -> torch.Tensor:
    """Zeros, since garbage could be nan; in host memory from calloc, so that unused pages cost nothing."""
    if shape.device.type != "cpu":
        return torch.zeros(size, dtype=shape.dtype, device=shape.device)
    return (
        torch.from_numpy(np.zeros(prod(size) * shape.dtype.itemsize, np.uint8)).view(shape.dtype).view(size)
    )


AttentionInterface.register(NAME, attend)
AttentionMaskInterface.register(NAME, mask)
