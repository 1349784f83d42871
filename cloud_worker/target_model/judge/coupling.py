"""The random numbers of `common.sampling.randomness`, made on the device that needs them.

Law: a number is a function of (seed, position, purpose, id), so only the ids that are asked for are computed.
"""

import numpy as np
import torch

from cloud_worker.target_model.judge.kernels import kernels, unit, words_in_torch
from cloud_worker.target_model.judge.table import Table
from common.sampling.randomness import Purpose, coupling_words, gumbel_of, uniform


def uniforms(table: Table, purpose: Purpose) -> torch.Tensor:
    """One number in (0, 1) for each row [n]."""
    device = table["seed"].device
    if device.type == "cpu":
        pairs = zip(table.seeds, table["position"].tolist(), strict=True)
        numbers = [uniform(seed, position, purpose) for seed, position in pairs]
        return torch.tensor(numbers, dtype=torch.float64)
    made = kernels(device)
    first = torch.zeros((1, 1), dtype=torch.float64, device=device)
    if made is not None:
        return made.uniform(*_keys(table), first, first + int(purpose))[:, 0]
    return unit(words_in_torch(table.column("seed"), table.column("position"), first.long(), purpose))[:, 0]


def gumbel_noise(table: Table, ids: torch.Tensor) -> torch.Tensor:
    """Standard Gumbel noise [n, k] for ids [n, k] or [1, k]."""
    device = ids.device
    if device.type == "cpu":
        return _on_host(table, ids.expand(len(table.asked), -1).numpy())
    made = kernels(device)
    if made is not None:
        purpose = torch.full((1, 1), float(Purpose.COUPLING), dtype=torch.float64, device=device)
        return made.gumbel(*_keys(table), ids.double(), purpose)
    words = words_in_torch(table.column("seed"), table.column("position"), ids, Purpose.COUPLING)
    return unit(words).log_().neg_().log_().neg_()


def _keys(table: Table) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The halves of the seeds, and the positions, as the kernels take them."""
    seeds = table.column("seed")
    high, low = seeds >> 32 & 0xFFFFFFFF, seeds & 0xFFFFFFFF
    return high.double(), low.double(), table.column("position").double()


def _on_host(table: Table, ids: np.ndarray) -> torch.Tensor:
    """The same by numpy's generator, which is faster on the CPU even where few ids are wanted."""
    noise = np.empty(ids.shape)
    for row, (seed, position) in enumerate(zip(table.seeds, table["position"].tolist(), strict=True)):
        words = coupling_words(seed, position, int(ids[row].max()) + 1)
        noise[row] = gumbel_of(words[ids[row]])
    return torch.from_numpy(noise)
