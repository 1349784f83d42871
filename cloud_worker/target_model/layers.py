"""The key/value cache of each layer: its cost per token, and a pool of pages for many sessions.

Shapes come from a trial run, never from a guess about the model's configuration.
"""

from dataclasses import dataclass
from math import prod

import numpy as np
import torch
from transformers import DynamicCache, PreTrainedModel

from common.transformers_cache import cache_argument


@dataclass(frozen=True, slots=True)
class LayerShape:
    """One layer's keys [num_heads, tokens, key_dim] and values [num_heads, tokens, value_dim]."""

    num_heads: int
    key_dim: int
    value_dim: int
    dtype: torch.dtype
    device: torch.device

    @property
    def token_bytes(self) -> int:
        """Bytes per cached token."""
        return self.num_heads * (self.key_dim + self.value_dim) * self.dtype.itemsize

    def zeros(self, num_slots: int, dim: int) -> torch.Tensor:
        """Zeros [num_slots, num_heads, dim]: entries that were never written must not be nan.

        Host memory comes from calloc, so unused pages cost nothing.
        """
        size = (num_slots, self.num_heads, dim)
        if self.device.type != "cpu":
            return torch.zeros(size, dtype=self.dtype, device=self.device)
        buffer = np.zeros(prod(size) * self.dtype.itemsize, np.uint8)
        return torch.from_numpy(buffer).view(self.dtype).view(size)


def layer_shapes(model: PreTrainedModel) -> dict[int, LayerShape]:
    """The shape of every layer that caches keys and values, by layer index."""
    cache = DynamicCache()
    token = torch.zeros((1, 1), dtype=torch.long, device=model.device)
    model(input_ids=token, use_cache=True, **{cache_argument(model.forward): cache})
    shapes: dict[int, LayerShape] = {}
    for index, layer in enumerate(cache.layers):
        keys, values = getattr(layer, "keys", None), getattr(layer, "values", None)
        if keys is not None and values is not None:
            shapes[index] = LayerShape(keys.shape[1], keys.shape[3], values.shape[3], keys.dtype, keys.device)
    return shapes


class PagedLayer:
    """The keys and values of one layer for all sessions, [num_pages * page_size, num_heads, dim] each."""

    def __init__(self, shape: LayerShape, num_pages: int, page_size: int) -> None:
        self.keys = shape.zeros(num_pages * page_size, shape.key_dim)
        self.values = shape.zeros(num_pages * page_size, shape.value_dim)
        self._page_size = page_size

    def copy_page(self, source: int, destination: int) -> None:
        """Copy all entries of a page to another page."""
        for pool in (self.keys, self.values):
            pages = pool.view(-1, self._page_size, *pool.shape[1:])
            pages[destination] = pages[source]
