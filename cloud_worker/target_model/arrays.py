"""Between torch and the rest of the worker: rows of logits as arrays, and arrays on their way to a GPU."""

from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch

FloatRows: TypeAlias = npt.NDArray[np.float32]
Integers: TypeAlias = npt.NDArray[np.int64]


def to_numpy(rows: torch.Tensor) -> FloatRows:
    """Rows [n, vocab_size] of any float type, on any device, as float32 in host memory."""
    return rows.detach().to("cpu", torch.float32).numpy()


def to_device(host: torch.Tensor, device: torch.device) -> torch.Tensor:
    """A copy on the device that the host does not wait for; on the CPU, the tensor itself."""
    if device.type != "cuda":
        return host.to(device)
    return host.pin_memory().to(device, non_blocking=True)


def together(arrays: Sequence[Integers], device: torch.device) -> list[torch.Tensor]:
    """Integers [n] of several arrays on the device, in one copy."""
    sent = to_device(torch.from_numpy(np.concatenate(arrays)), device)
    ends = accumulate((len(array) for array in arrays), initial=0)
    return [sent[begin:end] for begin, end in pairwise(ends)]
