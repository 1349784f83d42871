"""What one token costs in the cache of each layer: read from a trial run, never guessed from a config."""

from dataclasses import dataclass

import torch
from transformers import DynamicCache, PreTrainedModel


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


def layer_shapes(model: PreTrainedModel) -> dict[int, LayerShape]:
    """The shape of every layer that caches keys and values, by layer index."""
    cache = DynamicCache()
    model(
        input_ids=torch.zeros((1, 1), dtype=torch.long, device=model.device),
        past_key_values=cache,
        use_cache=True,
    )
    shapes: dict[int, LayerShape] = {}
    for index, layer in enumerate(cache.layers):
        keys, values = getattr(layer, "keys", None), getattr(layer, "values", None)
        if keys is not None and values is not None:
            shapes[index] = LayerShape(keys.shape[1], keys.shape[3], values.shape[3], keys.dtype, keys.device)
    return shapes
