"""Both packed kernels pass the trial; the CUDA one here against a stand-in that follows torch's contract."""

import inspect
from collections.abc import Callable
from typing import Any, TypedDict, Unpack

import pytest
import torch
from torch.nn.attention import varlen as torch_varlen
from transformers import AutoModelForCausalLM, LlamaConfig, MistralConfig, PreTrainedConfig, PreTrainedModel

from cloud_worker.target_model.attention import Kernel
from cloud_worker.target_model.engine import Trial
from cloud_worker.target_model.graphs import FixedPass, Size
from cloud_worker.target_model.layers import PagedLayer, layer_shapes
from cloud_worker.target_model.packed_engine import PAGE_SIZE, PackedEngine
from cloud_worker.target_model.packed_tokens import PackedTokens, Piece
from cloud_worker.target_model.padded import attend_padded
from cloud_worker.target_model.varlen import attend_varlen, suits

SIZES: dict[str, Any] = {
    "vocab_size": 97,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "pad_token_id": 0,
}
CONFIGS: dict[str, Callable[[], PreTrainedConfig]] = {
    "full": lambda: LlamaConfig(**SIZES),
    "window": lambda: MistralConfig(**SIZES, sliding_window=9),
}
REAL_SIGNATURE = inspect.signature(torch_varlen.varlen_attn)


class Options(TypedDict):
    """The keywords of the kernel."""

    window_size: tuple[int, int]
    scale: float | None
    enable_gqa: bool


def varlen_by_the_book(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    cu_seq_q: torch.Tensor,
    cu_seq_k: torch.Tensor,
    max_q: int,
    max_k: int,
    **options: Unpack[Options],
) -> torch.Tensor:
    """What torch documents: sequences one after the other, the last query aligned with the last key."""
    REAL_SIGNATURE.bind(query, key, value, cu_seq_q, cu_seq_k, max_q, max_k, **options)
    left, right = options["window_size"]
    assert right == 0
    assert max_q == cu_seq_q.diff().max()
    assert max_k == cu_seq_k.diff().max()
    outputs = []
    for i in range(len(cu_seq_q) - 1):
        queries = query[cu_seq_q[i] : cu_seq_q[i + 1]].transpose(0, 1)
        keys, values = (whole[cu_seq_k[i] : cu_seq_k[i + 1]].transpose(0, 1) for whole in (key, value))
        own = torch.arange(queries.shape[1])[:, None] + keys.shape[1] - queries.shape[1]
        other = torch.arange(keys.shape[1])
        seen = (other <= own) & ((other >= own - left) if left >= 0 else True)
        out = torch.nn.functional.scaled_dot_product_attention(
            queries, keys, values, attn_mask=seen, scale=options["scale"], enable_gqa=options["enable_gqa"]
        )
        outputs.append(out.transpose(0, 1))
    return torch.cat(outputs)


def build(name: str) -> PreTrainedModel:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(CONFIGS[name]()).eval().requires_grad_(False)
    for weights in model.parameters():
        if weights.ndim > 1:
            weights.copy_(torch.randn_like(weights) * 0.2)
    return model


def fault(model: PreTrainedModel, kernel: Kernel) -> str | None:
    with torch.inference_mode():
        trial = Trial(model)
        return trial.fault(PackedEngine(model, layer_shapes(model), trial.vocab_size, 512, 32, kernel))


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("kernel", [attend_padded, attend_varlen])
def test_a_kernel_passes_the_trial(name: str, kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_varlen, "varlen_attn", varlen_by_the_book)
    assert fault(build(name), kernel) is None


@pytest.mark.parametrize("name", CONFIGS)
def test_a_pass_filled_up_to_a_fixed_size_gives_the_same_logits(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a CUDA graph records, run without one; the kernel leaves the rows of no sequence undefined."""
    monkeypatch.setattr(torch_varlen, "varlen_attn", filled_up_varlen)
    pieces = [Piece([5, 6, 7, 8, 9], 0, (3,), 2), Piece([4, 3], 0, (0,), 1)]
    with torch.inference_mode():
        model = build(name)
        trial_width = model.config.vocab_size
        engine = PackedEngine(model, layer_shapes(model), trial_width, 512, 32, attend_padded)
        expected = engine.run_plainly(pieces)
        engine.kernel = attend_varlen
        engine.use_graphs()
        fixed = FixedPass(Size.of(pieces), engine.forward, PAGE_SIZE, expected.new_empty((64, trial_width)))
        fixed.fill(pieces, PAGE_SIZE, 512)
        torch.testing.assert_close(fixed.run()[: len(expected)], expected, rtol=1e-4, atol=1e-4)


def filled_up_varlen(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    cu_seq_q: torch.Tensor,
    cu_seq_k: torch.Tensor,
    max_q: int,
    max_k: int,
    **options: Unpack[Options],
) -> torch.Tensor:
    """The same for a query longer than its sequences."""
    del max_q, max_k
    longest_q, longest_k = int(cu_seq_q.diff().max()), int(cu_seq_k.diff().max())
    found = varlen_by_the_book(query, key, value, cu_seq_q, cu_seq_k, longest_q, longest_k, **options)
    return torch.cat([found, torch.full_like(query[len(found) :], torch.nan)])


def test_a_kernel_that_ignores_the_window_fails_the_trial() -> None:
    def without_window(
        query: torch.Tensor, layer: PagedLayer, tokens: PackedTokens, window: int, scaling: float | None
    ) -> torch.Tensor:
        return attend_padded(query, layer, tokens, min(window, 0), scaling)

    assert "logits are off by" in str(fault(build("window"), without_window))


def test_a_kernel_that_this_device_lacks_fails_the_trial() -> None:
    if torch.cuda.is_available():
        pytest.skip("a GPU is here")
    assert fault(build("full"), attend_varlen) is not None


def test_the_cuda_kernel_is_tried_for_half_precision_on_cuda_only() -> None:
    assert suits(torch.device("cuda"), torch.bfloat16)
    assert not suits(torch.device("cuda"), torch.float32)
    assert not suits(torch.device("cpu"), torch.bfloat16)
