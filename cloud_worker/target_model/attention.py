"""Attention over a paged pool of keys and values, called by transformers' models in place of their own.

Law: a model that asks for anything but causal attention, with or without a sliding window, is refused
(`NotPackableError`), never served something else: attention sinks, capped scores, position biases, chunks.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import torch
from transformers import AttentionInterface, AttentionMaskInterface

from cloud_worker.target_model.layers import PagedLayer
from cloud_worker.target_model.row import Piece, Row, pack

NAME = "hybrid_packed"
HARMLESS = frozenset({"sliding_window", "position_ids", "use_cache"})  # and whatever begins with output_
NO_WINDOW = 0


class NotPackableError(NotImplementedError):
    """The model's attention is more than this function knows."""


Kernel: TypeAlias = Callable[[torch.Tensor, PagedLayer, Row, int, float | None], torch.Tensor]


@dataclass(frozen=True, slots=True)
class Packed:
    """What one forward pass hands to every layer: the pieces of its row, the pool, how to attend."""

    pieces: Sequence[Piece]
    page_size: int
    layers: Mapping[int, PagedLayer]  # by layer index
    kernel: Kernel
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
    return packed.kernel(query[0], layer, row, attention_mask, scaling)[None], None


def mask(*, config: object, local_size: int | None = None, use_vmap: bool = False, **_: object) -> int:
    """In place of a mask tensor, the window of a layer.

    `use_vmap` marks a mask of the model's own making; a local size that is no sliding window is a chunk.
    """
    if use_vmap or local_size not in (None, getattr(config, "sliding_window", None)):
        raise NotPackableError("a mask of the model's own making")
    return local_size or NO_WINDOW


AttentionInterface.register(NAME, attend)
AttentionMaskInterface.register(NAME, mask)
