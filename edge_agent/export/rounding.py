"""Weights to integers of 4 or 8 bits, in blocks of inputs that share a scale and a zero point.

Law: a rounded matrix depends on nothing but the weights and what was measured of their inputs. With 8 bits
each weight takes the nearest integer. With 4 bits the error of one weight is made good by those that are
rounded after it (GPTQ, https://arxiv.org/abs/2210.17323), inputs with the largest values first, in blocks
whose scale and zero point are fitted before and stay.
"""

from dataclasses import dataclass

import torch

_SHRINKS = (1.0, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7, 0.65)  # of a block's range, tried for its scale
_DAMPING = 0.01  # of the mean diagonal: keeps the inputs' moments invertible
_CHUNK = 32  # inputs that are rounded before the others learn of it
_ROWS = 8192  # outputs whose blocks are fitted at once


@dataclass(frozen=True, slots=True)
class Blocks:
    """How a matrix is rounded: the bits of an integer, and the inputs that share a scale."""

    bits: int
    size: int

    @property
    def largest(self) -> int:
        """The largest integer."""
        return 2**self.bits - 1


@dataclass(frozen=True, slots=True)
class Rounded:
    """A matrix as integers [outputs, inputs], with scales and zero points [outputs, blocks]."""

    blocks: Blocks
    integers: torch.Tensor
    scales: torch.Tensor
    zeros: torch.Tensor

    def weights(self) -> torch.Tensor:
        """The matrix that the integers stand for."""
        values = self.integers.unflatten(1, (-1, self.blocks.size)).float()
        return values.sub_(self.zeros[..., None]).mul_(self.scales[..., None]).flatten(1)


def round_matrix(weights: torch.Tensor, blocks: Blocks, moments: torch.Tensor | None = None) -> Rounded:
    """Round `weights` [outputs, inputs].

    `moments` [inputs, inputs], the mean of x xT over inputs x, says which errors matter; without it every
    weight takes the nearest integer.
    """
    if moments is None or blocks.bits == 8:
        parts = [_nearest(part, blocks) for part in weights.split(_ROWS)]
        integers, scales, zeros = (torch.cat(values) for values in zip(*parts, strict=True))
        return Rounded(blocks, integers, scales, zeros)
    scales, zeros = _fit(weights, blocks, moments.diagonal())
    return Rounded(blocks, _compensated(weights, blocks, scales, zeros, moments), scales, zeros)


def _nearest(weights: torch.Tensor, blocks: Blocks) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    values = weights.float().unflatten(1, (-1, blocks.size))
    scales, zeros = _of_range(values, blocks, 1.0)
    return _integers(values, scales, zeros, blocks).flatten(1).to(torch.uint8), scales, zeros


def _of_range(values: torch.Tensor, blocks: Blocks, shrink: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Scale and zero point of each block, if its integers span its range, shrunk."""
    low, high = shrink * values.amin(-1).clamp(max=0), shrink * values.amax(-1).clamp(min=0)
    scales = ((high - low) / blocks.largest).clamp(min=1e-9)
    return scales, (-low / scales).round().clamp(0, blocks.largest)


def _integers(
    values: torch.Tensor, scales: torch.Tensor, zeros: torch.Tensor, blocks: Blocks
) -> torch.Tensor:
    return (values / scales[..., None] + zeros[..., None]).round().clamp(0, blocks.largest)


def _fit(
    weights: torch.Tensor, blocks: Blocks, importance: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Scales and zero points with the smallest weighted error when every weight takes the nearest integer."""
    values = weights.unflatten(1, (-1, blocks.size))
    weight = importance.unflatten(0, (-1, blocks.size))[None]
    best_scales, best_zeros = _of_range(values, blocks, 1.0)
    least = torch.full_like(best_scales, torch.inf)
    for shrink in _SHRINKS:
        scales, zeros = _of_range(values, blocks, shrink)
        steps = _integers(values, scales, zeros, blocks) - zeros[..., None]
        fitted = (weight * steps * values).sum(-1) / (weight * steps * steps).sum(-1).clamp(min=1e-20)
        fitted = torch.where(fitted > 0, fitted, scales)
        error = (weight * (steps * fitted[..., None] - values) ** 2).sum(-1)
        better = error < least
        least = torch.where(better, error, least)
        best_scales = torch.where(better, fitted, best_scales)
        best_zeros = torch.where(better, zeros, best_zeros)
    return best_scales, best_zeros


def _compensated(
    weights: torch.Tensor,
    blocks: Blocks,
    scales: torch.Tensor,
    zeros: torch.Tensor,
    moments: torch.Tensor,
) -> torch.Tensor:
    """Integers for which the outputs, not the weights, are nearest."""
    order = moments.diagonal().argsort(descending=True, stable=True)
    block = order // blocks.size
    left = weights[:, order].T.contiguous()  # inputs first: one is rounded at a time
    steps, offsets = scales[:, block].T.contiguous(), zeros[:, block].T.contiguous()
    damped = moments[order][:, order].clone()
    damped.diagonal().add_(_DAMPING * damped.diagonal().mean().clamp(min=1e-20))
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(damped))
    spread = torch.linalg.cholesky(inverse, upper=True)  # how an error moves the inputs that follow
    integers = torch.empty_like(left)
    for start in range(0, len(order), _CHUNK):
        end = min(start + _CHUNK, len(order))
        errors = torch.empty_like(left[start:end])
        for i in range(start, end):
            integers[i] = (left[i] / steps[i] + offsets[i]).round_().clamp_(0, blocks.largest)
            errors[i - start] = (left[i] - (integers[i] - offsets[i]) * steps[i]) / spread[i, i]
            left[i + 1 : end].addr_(spread[i, i + 1 : end], errors[i - start], alpha=-1)
        left[end:] -= spread[start:end, end:].T @ errors
    result = torch.empty_like(integers, dtype=torch.uint8)
    result[order] = integers.to(torch.uint8)
    return result.T.contiguous()
