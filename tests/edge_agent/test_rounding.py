"""Rounded matrices: near where the inputs are, and never outside their bits."""

import pytest
import torch

from edge_agent.export.rounding import Blocks, round_matrix

NUM_INPUTS, NUM_OUTPUTS = 192, 24


def matrix_and_inputs() -> tuple[torch.Tensor, torch.Tensor]:
    """Weights, and inputs that depend on each other, as a model's do."""
    generator = torch.Generator().manual_seed(3)
    weights = torch.randn(NUM_OUTPUTS, NUM_INPUTS, generator=generator)
    mixing = torch.randn(16, NUM_INPUTS, generator=generator)
    inputs = torch.randn(600, 16, generator=generator) @ mixing
    return weights, inputs + 0.3 * torch.randn(600, NUM_INPUTS, generator=generator) + 0.5


def test_eight_bits_are_within_half_a_step_of_every_weight() -> None:
    weights, _ = matrix_and_inputs()
    rounded = round_matrix(weights, Blocks(8, 64))
    steps = rounded.scales.repeat_interleave(64, 1)
    assert ((rounded.weights() - weights).abs() <= 0.501 * steps).all()


@pytest.mark.parametrize("size", [16, 32])
def test_four_bits_disturb_the_outputs_less_than_the_nearest_integers(size: int) -> None:
    weights, inputs = matrix_and_inputs()
    moments = inputs.T @ inputs / len(inputs)

    def error(moments: torch.Tensor | None) -> float:
        rounded = round_matrix(weights, Blocks(4, size), moments)
        assert int(rounded.integers.max()) <= 15
        return float(((rounded.weights() - weights) @ inputs.T).square().mean())

    assert error(moments) < 0.5 * error(None)


@pytest.mark.parametrize("bits", [4, 8])
def test_inputs_that_are_always_zero_and_blocks_of_zeros_are_rounded(bits: int) -> None:
    weights, inputs = matrix_and_inputs()
    inputs[:, 5] = 0
    weights[:, :64] = 0
    rounded = round_matrix(weights, Blocks(bits, 32), inputs.T @ inputs / len(inputs))
    assert rounded.weights().isfinite().all()
    assert rounded.weights()[:, :64].abs().max() < 1e-6
