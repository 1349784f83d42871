"""Packed attention for any device: pieces of similar size are padded and attended together.

Law: a sequence's result depends on its own keys and values alone. A mask is not enough for that: hidden
values get the weight 0, and 0 times NaN is NaN. So what a page holds after a sequence's end is cleared, and
tables are padded with the sequence's own pages.
"""

import torch
from torch.nn.functional import scaled_dot_product_attention

from cloud_worker.target_model.layers import PagedLayer
from cloud_worker.target_model.packed_tokens import Group, PackedTokens


def attend_padded(
    query: torch.Tensor, layer: PagedLayer, tokens: PackedTokens, window: int, scaling: float | None
) -> torch.Tensor:
    """[T, Hq, Dv] for queries [Hq, T, D]; window 0: none."""
    padding = tokens.padding()
    if len(padding.tails):
        layer.keys.index_fill_(0, padding.tails, 0.0)
        layer.values.index_fill_(0, padding.tails, 0.0)
    return torch.cat([_attend_group(query, layer, group, window, scaling) for group in padding.groups])


def _attend_group(
    query: torch.Tensor, layer: PagedLayer, group: Group, window: int, scaling: float | None
) -> torch.Tensor:
    """[T', Hq, Dv] for a group's tokens. The query heads of a key head become rows of one matrix."""
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
    return out.reshape(num_pieces * num_new, num_heads * num_shared, -1).index_select(0, group.kept)


def _fetch(pool: torch.Tensor, group: Group) -> torch.Tensor:
    """A group's keys or values, [B, H, m * page_size, dim]."""
    pages = pool.view(-1, group.page_size, *pool.shape[1:]).index_select(0, group.tables)
    return pages.view(len(group.positions), -1, *pool.shape[1:]).transpose(1, 2)
