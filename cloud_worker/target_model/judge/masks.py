"""Grammars' masks on rows, where these lie; they stay packed on the way to the device."""

from collections.abc import Sequence

import numpy as np
import torch

from cloud_worker.target_model.arrays import to_device
from common.sampling.mask import WORD_BITS, Mask, num_words


def forbid(rows: torch.Tensor, masks: Sequence[Mask | None]) -> torch.Tensor:
    """A copy of rows [n, width] with -inf where a row's mask has no bit; None allows all."""
    num = num_words(rows.shape[1])
    packed = np.full((len(masks), num), 0xFFFFFFFF, np.uint32)
    for row, mask in zip(packed, masks, strict=True):
        if mask is not None:
            row[:] = mask[:num]
    words = to_device(torch.from_numpy(packed.view(np.int32)), rows.device)
    shifts = torch.arange(WORD_BITS, dtype=torch.int32, device=rows.device)
    bits = (words[:, :, None] >> shifts) & 1
    return rows.masked_fill(bits.flatten(1)[:, : rows.shape[1]] == 0, float("-inf"))
