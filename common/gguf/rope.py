"""The scaling of rotary frequencies that a GGUF file states, in the terms of transformers' `rope_parameters`.

transformers reads the base frequency of most architectures and none of their scaling, so long texts would be
read wrongly, or all texts (Llama 3.1 and later). Law: a scaling that cannot be stated exactly is refused.
"""

from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from common.gguf.facts import architecture
from common.gguf.header import GgufError, Header, Tensor
from common.gguf.layout import WEIGHT_TYPES

FREQUENCIES = "rope_freqs.weight"  # what divides each frequency
BY_LENGTH = ("rope_factors_long.weight", "rope_factors_short.weight")
LLAMA3 = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
TOLERANCE = 1e-3  # of a factor


def rope_scaling(header: Header) -> Mapping[str, object]:
    """The fields that `rope_parameters` must have besides those that transformers reads; {} for none."""
    if any(name in header.tensors for name in BY_LENGTH):
        raise _unreadable(header)
    prefix = f"{architecture(header)}.rope.scaling"
    kind, factor = header.metadata.get(f"{prefix}.type"), header.metadata.get(f"{prefix}.factor")
    if FREQUENCIES in header.tensors:
        return _llama3(header, header.tensors[FREQUENCIES])
    if kind not in ("linear", "yarn") or not isinstance(factor, int | float) or factor == 1.0:
        return {}
    if kind == "linear":
        return {"rope_type": "linear", "factor": float(factor)}
    original = header.metadata.get(f"{prefix}.original_context_length")
    if not isinstance(original, int):
        raise _unreadable(header)
    return {"rope_type": "yarn", "factor": float(factor), "original_max_position_embeddings": original}


def with_scaling(parameters: Mapping[str, Any], scaling: Mapping[str, object]) -> dict[str, Any]:
    """`rope_parameters` with the scaling; of models with two kinds of layers, those with full attention."""
    full = parameters.get("full_attention")
    if isinstance(full, dict):
        return {**parameters, "full_attention": {**cast("dict[str, Any]", full), **scaling}}
    return {**parameters, **scaling}


def _llama3(header: Header, tensor: Tensor) -> Mapping[str, object]:
    """Find the factor of Llama 3's rule, which the file states by its results."""
    found = _read(header, tensor)
    base = header.metadata.get(f"{architecture(header)}.rope.freq_base")
    if found is None or not isinstance(base, int | float):
        raise _unreadable(header)
    if np.allclose(found, 1.0, atol=TOLERANCE):
        return {}
    factor = float(found.max())
    lengths = 2 * np.pi * float(base) ** (np.arange(len(found)) / len(found))
    low, high = LLAMA3["low_freq_factor"], LLAMA3["high_freq_factor"]
    share = (LLAMA3["original_max_position_embeddings"] / lengths - low) / (high - low)
    expected = 1.0 / np.clip((1.0 - share) / factor + share, 1.0 / factor, 1.0)
    if not np.allclose(found, expected, rtol=TOLERANCE):
        raise _unreadable(header)
    return {"rope_type": "llama3", "factor": round(factor, 3), **LLAMA3}


def _read(header: Header, tensor: Tensor) -> npt.NDArray[np.float32] | None:
    if WEIGHT_TYPES[tensor.weight_type].name != "F32" or not 0 < tensor.shape[-1] <= 1 << 12:
        return None
    with header.path.open("rb") as file:
        file.seek(tensor.start)
        return np.frombuffer(file.read(4 * tensor.shape[-1]), np.float32)


def _unreadable(header: Header) -> GgufError:
    return GgufError(
        f"{header.path} scales its rotary frequencies in a way that cannot be read from GGUF: use the "
        "model's own folder"
    )
