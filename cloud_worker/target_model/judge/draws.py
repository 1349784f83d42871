"""Sums and draws over rows of weights, in blocks of columns.

Law: a row's result does not depend on the other rows. So sums run over blocks of one fixed length, then over
the blocks: torch splits the sum of a single long row differently from those of several rows.
"""

import torch

COLUMNS = 1024  # in a block


def padded_width(width: int) -> int:
    """The width of rows whose columns form whole blocks, two or more."""
    return max(2, -(-width // COLUMNS)) * COLUMNS


def block_sums(weights: torch.Tensor) -> torch.Tensor:
    """The sum of each block of columns, [n, num_blocks]."""
    return weights.view(len(weights), -1, COLUMNS).sum(-1)


def draw(weights: torch.Tensor, uniforms: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Inverse of the cumulative distribution of weights [n, padded width] at uniforms [n]; and the masses.

    Never a column of weight 0, unless the mass is 0. It finds the block first, so that only one block of each
    row is added up entry by entry.
    """
    cumulative = block_sums(weights).cumsum(-1)
    mass = cumulative[:, -1]
    wanted = (uniforms * mass)[:, None]
    block = (cumulative <= wanted).sum(-1, keepdim=True).clamp_(max=cumulative.shape[1] - 1)
    before = torch.where(block > 0, cumulative.gather(1, (block - 1).clamp_(min=0)), 0.0)
    blocks = weights.view(len(weights), -1, COLUMNS)
    inner = blocks.gather(1, block[:, :, None].expand(-1, 1, COLUMNS))[:, 0]
    return block[:, 0] * COLUMNS + _first_above(inner, inner.cumsum(-1), wanted - before), mass


def draw_short(weights: torch.Tensor, uniforms: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The same for short rows of any width."""
    cumulative = weights.cumsum(-1)
    mass = cumulative[:, -1]
    return _first_above(weights, cumulative, (uniforms * mass)[:, None]), mass


def _first_above(weights: torch.Tensor, cumulative: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """The first column whose cumulative weight is above `wanted` [n, 1]; or the last that has any, if
    rounding leaves none.
    """
    columns = torch.arange(weights.shape[1], device=weights.device)
    last = torch.where(weights > 0.0, columns, 0).amax(-1)
    return torch.minimum((cumulative <= wanted).sum(-1), last)
