"""On a GPU: torch's attention, recorded passes, and judging without waiting. Skipped where there is none."""

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, MistralConfig, PreTrainedConfig, PreTrainedModel

from cloud_worker.passes.forward_pass import Pass
from cloud_worker.target_model import TargetModel
from cloud_worker.target_model.engine import Trial, plain_logits
from cloud_worker.target_model.graphs import MIN_RECURRENCES
from cloud_worker.target_model.judge.coupling import kernel_words, words_in_torch
from cloud_worker.target_model.layers import layer_shapes
from cloud_worker.target_model.loading import Loaded
from cloud_worker.target_model.packed_engine import PackedEngine
from cloud_worker.target_model.varlen import attend_varlen
from tests.support.judged_rows import SAMPLINGS, batch_of, plain, random_job, tasks_of

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")

VOCAB_SIZE = 1100
SIZES: dict[str, Any] = {
    "vocab_size": VOCAB_SIZE,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "pad_token_id": 0,
    "max_position_embeddings": 1024,
}
CONFIGS: dict[str, PreTrainedConfig] = {
    "full": LlamaConfig(**SIZES),
    "window": MistralConfig(**SIZES, sliding_window=19),
}


def build(name: str, dtype: torch.dtype) -> PreTrainedModel:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(CONFIGS[name]).eval().requires_grad_(False)
    for weights in model.parameters():
        if weights.ndim > 1:
            weights.copy_(torch.randn_like(weights) * 0.15)
    return model.to("cuda", dtype)


def target(model: PreTrainedModel) -> TargetModel:
    return TargetModel(Loaded(model, {}, frozenset(), 1024), cache_bytes=16 << 20)


def schedule(num_sessions: int, num_rounds: int) -> list[list[Pass]]:
    """Blocks that are verified, rewound and verified again, a little longer each time."""
    draw = np.random.default_rng(1)
    texts = [draw.integers(0, VOCAB_SIZE, 30 + 3 * number).tolist() for number in range(num_sessions)]
    rounds: list[list[Pass]] = []
    for number in range(num_rounds):
        rounds.append(
            [
                Pass(f"s{index}", [*text[: 30 + number], *draw.integers(0, VOCAB_SIZE, 4).tolist()], 5)
                for index, text in enumerate(texts)
            ]
        )
    return rounds


@pytest.mark.parametrize("name", CONFIGS)
def test_torchs_own_attention_passes_the_trial(name: str) -> None:
    model = build(name, torch.bfloat16)
    with torch.inference_mode():
        trial = Trial(model)
        engine = PackedEngine(model, layer_shapes(model), trial.vocab_size, 512, 32, attend_varlen)
        assert trial.fault(engine) is None


@pytest.mark.parametrize("name", CONFIGS)
def test_sizes_that_recur_are_recorded_and_give_the_same_logits(name: str) -> None:
    model = build(name, torch.bfloat16)
    graphed = target(model)
    graphs = graphed.graphs
    assert graphs is not None
    reference = {}
    with torch.inference_mode():
        for passes in schedule(3, 4 * MIN_RECURRENCES):
            for one, rows in zip(passes, graphed.logits(passes), strict=True):
                reference[tuple(one.tokens)] = rows
        assert graphs.fault is None
        assert graphs.num_replays > MIN_RECURRENCES
        for tokens, rows in list(reference.items())[-6:]:
            expected = plain_logits(model, tokens)[-5:]
            assert np.abs(rows - expected).max() <= 0.1 * np.abs(expected).max()


@pytest.mark.parametrize("name", CONFIGS)
def test_float32_gives_the_logits_of_a_plain_forward_pass(name: str) -> None:
    model = build(name, torch.float32)
    with torch.inference_mode():
        packed = target(model)
        for passes in schedule(4, 6):
            for one, rows in zip(passes, packed.logits(passes), strict=True):
                expected = plain_logits(model, one.tokens)[-5:]
                assert np.abs(rows - expected).max() <= 1e-3 * np.abs(expected).max()


def test_the_noise_comes_from_one_kernel() -> None:
    assert kernel_words("cuda") is not words_in_torch


@pytest.mark.parametrize("name", ["plain", "qwen", "greedy", "top_p", "flat"])
def test_a_verification_gives_the_verdicts_of_the_reference(name: str) -> None:
    draw = np.random.default_rng(2)
    model = target(build("full", torch.float32))
    jobs = [
        random_job(draw, VOCAB_SIZE, SAMPLINGS[name], form)[0] for form in ("lattice", "dense", "coupled")
    ]
    batch = batch_of(tasks_of(jobs))
    expected = batch_of(tasks_of(jobs)).judged(model.logits(batch.passes))
    found = [part.outcome for part in model.verify(batch).parts]
    assert [plain(one) for one in found] == [plain(one) for one in expected]


@pytest.mark.parametrize("name", ["plain", "qwen", "greedy"])
def test_the_host_waits_for_the_gpu_once_per_pass(name: str) -> None:
    draw = np.random.default_rng(3)
    model = target(build("full", torch.bfloat16))
    jobs = [
        random_job(draw, VOCAB_SIZE, SAMPLINGS[name], form)[0] for form in ("lattice", "dense", "coupled")
    ]
    for _ in range(2 * MIN_RECURRENCES):
        model.verify(batch_of(tasks_of(jobs)))
    assert model.graphs is not None
    assert model.graphs.fault is None
    batch = batch_of(tasks_of(jobs))
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as waits:
            warnings.simplefilter("always")
            model.verify(batch)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert len(waits) <= 1, [str(one.message) for one in waits]
