"""The names of an ONNX language model's inputs and outputs, and the shape of its cache.

Law: names are read, never assumed. Each exporter names a layer's cache differently:

    onnxruntime-genai, optimum, transformers.js   past_key_values.0.key              -> present.0.key
    transformers' own exporter                    input.past_key_values.layers.0.keys
                                                  -> output.past_key_values.layers.0.keys
    the same, since transformers 5.24             input.cache.layers.0.keys -> output.cache.layers.0.keys
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edge_agent.errors import ModelError

_SLOT = r"\.(?:layers\.)?(\d+)\.(?:decoder\.)?(key|value)s?"
_PAST = re.compile(r"(?:input\.)?(?:past_key_values|cache)" + _SLOT)
_PRESENT = re.compile(r"(?:present|(?:output\.)?(?:past_key_values|cache))" + _SLOT)
_CACHE_TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16}
_INTEGER_TYPES = {"tensor(int64)": np.int64, "tensor(int32)": np.int32}

# The other inputs that DraftModel can fill (see `_inputs` there).
KNOWN_INPUTS = frozenset(
    {
        "input_ids",
        "attention_mask",
        "position_ids",
        "use_cache_branch",
        "num_logits_to_keep",
        "logits_to_keep",
    }
)


@dataclass(frozen=True, slots=True)
class Tensor:
    """One input or output of a graph; a varying dimension is a string or None."""

    name: str
    shape: tuple[int | str | None, ...]
    type: str


@dataclass(frozen=True, slots=True)
class CacheTensor:
    """One layer's keys or values [1, num_heads, positions, head_size]: `past` is read, `present` written."""

    past: str
    present: str
    num_heads: int
    head_size: int
    dtype: type[np.floating]


@dataclass(frozen=True, slots=True)
class Graph:
    """A graph that was understood: its cache, and the types of its other inputs (None for a boolean)."""

    inputs: dict[str, type[np.integer] | None]
    cache: tuple[CacheTensor, ...]
    logits_size: int | None


def read_graph(
    inputs: Sequence[Tensor], outputs: Sequence[Tensor], *, num_heads: int | None, head_size: int | None
) -> Graph:
    """Understand a graph from its inputs and outputs.

    `num_heads` and `head_size` replace symbolic dimensions. Raises ModelError for a graph without logits or
    cache, or with an unknown input.
    """
    present = {_slot(match): tensor.name for tensor in outputs if (match := _PRESENT.fullmatch(tensor.name))}
    past = {_slot(match): tensor for tensor in inputs if (match := _PAST.fullmatch(tensor.name))}
    if not past:
        raise ModelError("The graph has no key/value cache inputs: export it again, with past key values.")
    if past.keys() != present.keys():
        raise ModelError("The cache inputs and outputs of the graph do not pair up: export it again.")
    logits = next((tensor for tensor in outputs if tensor.name == "logits"), None)
    if logits is None:
        raise ModelError("The graph has no output named logits: export a causal language model.")
    known = {tensor.name: _input_type(tensor) for tensor in inputs if not _PAST.fullmatch(tensor.name)}
    if "input_ids" not in known:
        raise ModelError("The graph has no input named input_ids: export a causal language model.")
    width = logits.shape[-1] if logits.shape else None
    return Graph(
        inputs=known,
        cache=tuple(_cache_tensor(past[slot], present[slot], num_heads, head_size) for slot in sorted(past)),
        logits_size=width if isinstance(width, int) else None,
    )


def _slot(match: re.Match[str]) -> tuple[int, str]:
    return int(match[1]), match[2]


def _input_type(tensor: Tensor) -> type[np.integer] | None:
    if tensor.name not in KNOWN_INPUTS:
        raise ModelError(
            f"The graph has an unknown input '{tensor.name}': use a text model whose "
            "only state is a key/value cache."
        )
    return _INTEGER_TYPES.get(tensor.type)


def _cache_tensor(tensor: Tensor, present: str, num_heads: int | None, head_size: int | None) -> CacheTensor:
    if tensor.type not in _CACHE_TYPES:
        raise ModelError(f"The cache of the graph has type {tensor.type}: export it in float32 or float16.")
    if len(tensor.shape) != 4:
        raise ModelError(
            f"The cache '{tensor.name}' has {len(tensor.shape)} dimensions instead of 4: export it again."
        )
    heads, size = _size(tensor.shape[1]) or num_heads, _size(tensor.shape[3]) or head_size
    if heads is None or size is None:
        raise ModelError(
            f"Neither the graph nor the configuration states the size of the cache '{tensor.name}': add "
            "num_key_value_heads and head_dim to config.json."
        )
    return CacheTensor(tensor.name, present, heads, size, _CACHE_TYPES[tensor.type])


def _size(dimension: int | str | None) -> int | None:
    """A fixed dimension, else None; some exporters write the number as a string."""
    if isinstance(dimension, str):
        return int(dimension) if dimension.isdigit() else None
    return dimension
