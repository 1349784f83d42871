"""Penalties on the rows of one sequence, where they lie.

Law: the numbers are those of `common.sampling.penalties`, bit for bit.
"""

from collections.abc import Sequence

import numpy as np
import torch

from cloud_worker.target_model.arrays import to_device
from common.sampling.distribution import Sampling


def penalise(
    rows: torch.Tensor, sampling: Sampling, tokens: Sequence[int], num_prompt: int, positions: Sequence[int]
) -> None:
    """Change float32 rows [n, width] in place, each given the tokens before its position; these rise."""
    text = np.array(tokens[: positions[-1]], np.int64)
    ids, first, column = np.unique(text, return_index=True, return_inverse=True)
    written = np.arange(len(text)) >= num_prompt
    counts = np.zeros((len(positions), len(ids)), np.int32)
    begin = 0
    for row, position in enumerate(positions):
        new = column[begin:position][written[begin:position]]
        if row:
            counts[row] = counts[row - 1]
        np.add.at(counts[row], new, 1)
        begin = position
    inside = ids < rows.shape[1]
    ids, first, counts = ids[inside], first[inside], counts[:, inside]
    seen = first[None] < np.array(positions)[:, None]
    index = to_device(torch.from_numpy(ids), rows.device)
    found = rows[:, index]
    changed = found
    if sampling.repetition_penalty != 1.0:
        factor = torch.full_like(found, sampling.repetition_penalty)
        changed = torch.where(changed < 0.0, changed * factor, changed / factor)
    if sampling.presence_penalty or sampling.frequency_penalty:
        numbers = to_device(torch.from_numpy(counts), rows.device)
        lowered = changed - torch.full_like(changed, sampling.presence_penalty)
        lowered = (lowered.double() - sampling.frequency_penalty * numbers.double()).float()
        changed = torch.where(numbers > 0, lowered, changed)
    rows[:, index] = torch.where(to_device(torch.from_numpy(seen), rows.device), changed, found)
