"""Attention over a paged pool of keys and values, which transformers' models call instead of their own.

Law: only causal attention, with or without a sliding window, is supported. A model that asks for anything
else (attention sinks, capped scores, position biases, chunks) is refused with `NotPackableError`, never given
different attention.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import torch
from transformers import AttentionInterface, AttentionMaskInterface

from cloud_worker.target_model.layers import PagedLayer
from cloud_worker.target_model.packed_tokens import PackedTokens, Piece, pack

NAME = "hybrid_packed"
HARMLESS = frozenset({"sliding_window", "position_ids", "use_cache"})  # and all that begin with output_
NO_WINDOW = 0


class NotPackableError(NotImplementedError):
    """The model's attention has features that packed attention does not support."""


Kernel: TypeAlias = Callable[[torch.Tensor, PagedLayer, PackedTokens, int, float | None], torch.Tensor]


@dataclass(frozen=True, slots=True)
class PackedBatch:
    """What one forward pass hands to every layer: the packed pieces, the page pool, and the kernel."""

    pieces: Sequence[Piece]
    page_size: int
    layers: Mapping[int, PagedLayer]  # by layer index
    kernel: Kernel
    _tokens: dict[torch.device, PackedTokens] = field(default_factory=dict)

    @classmethod
    def made_of(cls, tokens: PackedTokens, layers: Mapping[int, PagedLayer], kernel: Kernel) -> "PackedBatch":
        """A batch whose tokens are on their device already."""
        return cls((), tokens.page_size, layers, kernel, {tokens.slots.device: tokens})

    def tokens_on(self, device: torch.device) -> PackedTokens:
        """The packed tokens on a layer's device."""
        if device not in self._tokens:
            self._tokens[device] = pack(self.pieces, self.page_size, device)
        return self._tokens[device]


def attend(
    module: torch.nn.Module,
    query: torch.Tensor,  # [1, Hq, T, D]
    key: torch.Tensor,  # [1, H, T, D]
    value: torch.Tensor,  # [1, H, T, Dv]
    attention_mask: int,
    *,
    packed: PackedBatch,
    scaling: float | None = None,
    dropout: float = 0.0,
    is_causal: bool | None = None,
    **extra: object,
) -> tuple[torch.Tensor, None]:
    """Write the new keys and values, then attend over the pool. Returns [1, T, Hq, Dv].

    `attention_mask` is this layer's window, as `mask` returned it to the model.
    """
    unknown = [name for name, given in extra.items() if given is not None and name not in HARMLESS]
    unknown = [name for name in unknown if not name.startswith("output_")]
    if unknown or dropout or is_causal is False or type(attention_mask) is not int:
        raise NotPackableError(f"attention with {', '.join(unknown) or 'an unknown mask'}")
    layer = packed.layers[int(module.layer_idx)]  # pyright: ignore[reportArgumentType]
    tokens = packed.tokens_on(query.device)
    layer.keys.index_copy_(0, tokens.slots, key[0].transpose(0, 1))
    layer.values.index_copy_(0, tokens.slots, value[0].transpose(0, 1))
    return packed.kernel(query[0], layer, tokens, attention_mask, scaling)[None], None


def mask(*, config: object, local_size: int | None = None, use_vmap: bool = False, **_: object) -> int:
    """The window of a layer, in place of a mask tensor.

    `use_vmap` marks a mask that the model makes itself; a local size that is not the window is a chunk.
    """
    if use_vmap or local_size not in (None, getattr(config, "sliding_window", None)):
        raise NotPackableError("a mask of the model's own making")
    return local_size or NO_WINDOW


AttentionInterface.register(NAME, attend)
AttentionMaskInterface.register(NAME, mask)
