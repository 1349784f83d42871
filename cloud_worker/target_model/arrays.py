"""From torch to the rest of the worker: rows of logits as numpy arrays."""

from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch

FloatRows: TypeAlias = npt.NDArray[np.float32]


def to_numpy(rows: torch.Tensor) -> FloatRows:
    """Rows [n, vocab_size] of any float type, on any device, as float32 in host memory."""
    return rows.detach().to("cpu", torch.float32).numpy()
