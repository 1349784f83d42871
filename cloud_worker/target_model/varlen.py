"""Packed attention on CUDA in half precision: torch's variable-length attention, without padding or masks.

Cached keys and values are first gathered from their pages, so any page size works.
"""

import importlib
import inspect
from collections.abc import Callable
from functools import cache

import torch

from cloud_worker.target_model.layers import PagedLayer
from cloud_worker.target_model.packed_tokens import PackedTokens

MODULE = "torch.nn.attention.varlen"  # newer than the oldest torch that the package accepts


def attend_varlen(
    query: torch.Tensor, layer: PagedLayer, tokens: PackedTokens, window: int, scaling: float | None
) -> torch.Tensor:
    """[T, Hq, Dv] for queries [Hq, T, D]; window 0: none.

    `num_splits=1` makes the result of a sequence independent of the other sequences, where torch has it.
    """
    spans = tokens.spans()
    kernel, options = _kernel()
    return kernel(
        query.transpose(0, 1).contiguous(),
        layer.keys.index_select(0, spans.key_slots),
        layer.values.index_select(0, spans.key_slots),
        spans.query_ends,
        spans.key_ends,
        spans.longest_new,
        spans.longest,
        scale=scaling,
        # keys to the left of the query's own, none to the right
        window_size=(window - 1 if window else -1, 0),
        **options,
    )


def _kernel() -> tuple[Callable[..., torch.Tensor], dict[str, object]]:
    """The kernel, and the options that this torch has: 2.11 groups query heads without being asked."""
    kernel = importlib.import_module(MODULE).varlen_attn
    return kernel, _options(kernel)


@cache
def _options(kernel: Callable[..., torch.Tensor]) -> dict[str, object]:
    known = inspect.signature(kernel).parameters
    is_open = any(each.kind is each.VAR_KEYWORD for each in known.values())
    wanted: dict[str, object] = {"enable_gqa": True, "num_splits": 1}
    return {name: value for name, value in wanted.items() if is_open or name in known}


def suits(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether it is worth a trial: its kernels exist only for CUDA and 16 bits."""
    return device.type == "cuda" and dtype in (torch.bfloat16, torch.float16)
