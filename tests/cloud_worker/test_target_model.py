"""The target model's law: whatever is cached, rewound or evicted, logits equal a plain forward pass."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import (
    AutoModelForCausalLM,
    BertConfig,
    Gemma2Config,
    Gemma3TextConfig,
    GPT2Config,
    GptOssConfig,
    GraniteConfig,
    Lfm2Config,
    Llama4TextConfig,
    LlamaConfig,
    MambaConfig,
    MistralConfig,
    Olmo2Config,
    Phi3Config,
    PreTrainedConfig,
    PreTrainedModel,
    Qwen2Config,
    Qwen3Config,
    Qwen3MoeConfig,
    SmolLM3Config,
)

from cloud_worker.passes.forward_pass import Pass
from cloud_worker.target_model import TargetModel, TargetModelError, packed_tokens
from cloud_worker.target_model.engine import plain_logits
from cloud_worker.target_model.loading import Loaded

VOCAB_SIZE = 101
SIZES: dict[str, Any] = {  # each family takes some, by keyword
    "vocab_size": VOCAB_SIZE,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 512,
    "pad_token_id": 0,
    "eos_token_id": 1,
    "bos_token_id": 2,
}
SLIDING = ["sliding_attention", "full_attention", "sliding_attention"]
FAMILIES: dict[str, Callable[[], PreTrainedConfig]] = {
    "llama": lambda: LlamaConfig(**SIZES),
    "qwen2": lambda: Qwen2Config(**SIZES),
    "qwen3": lambda: Qwen3Config(**SIZES),
    "gpt2": lambda: GPT2Config(vocab_size=VOCAB_SIZE, n_embd=32, n_layer=3, n_head=4, n_positions=512),
    "mistral-sliding": lambda: MistralConfig(**SIZES, sliding_window=12),
    "gemma3": lambda: Gemma3TextConfig(**SIZES, sliding_window=12, layer_types=SLIDING),
    "phi3": lambda: Phi3Config(**SIZES),
    "olmo2": lambda: Olmo2Config(**SIZES),
    "granite": lambda: GraniteConfig(**SIZES),
    "smollm3": lambda: SmolLM3Config(**SIZES),
    "qwen3-moe": lambda: Qwen3MoeConfig(
        **SIZES, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=16
    ),
    "gemma2-softcap": lambda: Gemma2Config(
        **SIZES, sliding_window=12, layer_types=SLIDING, attn_logit_softcapping=1.0
    ),
    "llama4-chunks": lambda: Llama4TextConfig(
        **SIZES,
        attention_chunk_size=12,
        layer_types=["chunked_attention", "full_attention", "chunked_attention"],
        num_local_experts=2,
        intermediate_size_mlp=32,
    ),
    "gpt-oss-sinks": lambda: GptOssConfig(
        **SIZES, sliding_window=12, layer_types=SLIDING, num_local_experts=4, num_experts_per_tok=2
    ),
}


def build(config: PreTrainedConfig) -> PreTrainedModel:
    """A random model, with weights large enough that attention matters."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for weights in model.parameters():
            if weights.ndim > 1:
                weights.copy_(torch.randn_like(weights) * 0.2)
    return model


def loaded(model: PreTrainedModel) -> Loaded:
    return Loaded(model, {}, frozenset(), 512)


def random_schedule(
    draw: np.random.Generator, num_sessions: int, num_steps: int, sizes: tuple[int, ...] = (1, 2, 5, 40)
) -> list[list[Pass]]:
    """Batches in which sessions are opened, extended, rewound, forked from each other and asked again."""
    held: dict[int, list[int]] = {}
    steps: list[list[Pass]] = []
    for _ in range(num_steps):
        batch: list[Pass] = []
        for session in draw.permutation(num_sessions)[: draw.integers(1, num_sessions + 1)].tolist():
            tokens = held.get(session, [])
            match int(draw.integers(6)):
                case 0 if tokens:  # rejected: back by a few
                    tokens = tokens[: max(1, len(tokens) - int(draw.integers(1, 8)))]
                case 1 if tokens:  # taken over from far earlier
                    tokens = tokens[: int(draw.integers(1, len(tokens) + 1))]
                case 2 if held:  # begins like another session
                    tokens = list(held[int(draw.choice(list(held)))])
                case 3:
                    tokens = []
                case _:
                    pass
            tokens = tokens[:150] + draw.integers(0, VOCAB_SIZE, draw.choice(sizes)).tolist()
            held[session] = tokens
            batch.append(Pass(session, tokens, int(draw.integers(0, min(len(tokens), 9) + 1))))
        steps.append(batch)
    return steps


def assert_lawful(model: PreTrainedModel, target: TargetModel, steps: list[list[Pass]]) -> None:
    for step in steps:
        for one, rows in zip(step, target.logits(step), strict=True):
            assert rows.dtype == np.float32
            assert rows.shape == (one.num_rows, VOCAB_SIZE)
            np.testing.assert_allclose(rows, expected_rows(model, one), atol=1e-4)


def expected_rows(model: PreTrainedModel, one: Pass) -> np.ndarray:
    original = str(getattr(model.config, "_attn_implementation", "eager"))
    model.set_attn_implementation("eager")
    with torch.inference_mode():
        rows = plain_logits(model, one.tokens)[one.first_row :]
    model.set_attn_implementation(original)
    return rows


@pytest.mark.parametrize("family", FAMILIES)
def test_any_schedule_gives_the_logits_of_a_plain_forward_pass(family: str) -> None:
    model = build(FAMILIES[family]())
    target = TargetModel(loaded(model), chunk_tokens=24)
    assert_lawful(model, target, random_schedule(np.random.default_rng(1), num_sessions=4, num_steps=12))


@pytest.mark.parametrize("family", ["llama", "mistral-sliding"])
@pytest.mark.parametrize(("max_waste", "call_cost"), [(1.0, 0), (1.5, 50), (9.0, 10**9)])
def test_however_pieces_are_grouped_the_logits_are_the_same(
    family: str, max_waste: float, call_cost: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packed_tokens, "MAX_WASTE", max_waste)
    monkeypatch.setattr(packed_tokens, "CALL_COST", call_cost)
    model = build(FAMILIES[family]())
    target = TargetModel(loaded(model), chunk_tokens=64)
    assert_lawful(model, target, random_schedule(np.random.default_rng(3), num_sessions=6, num_steps=5))


@pytest.mark.parametrize("family", ["llama", "gpt2", "mistral-sliding"])
def test_evicted_sessions_are_recomputed(family: str) -> None:
    model = build(FAMILIES[family]())
    roomy = TargetModel(loaded(build(FAMILIES[family]())))
    tight = TargetModel(loaded(model), cache_bytes=bytes_for(model, 260), chunk_tokens=32)
    steps = random_schedule(np.random.default_rng(2), num_sessions=6, num_steps=12, sizes=(5, 100))
    assert_lawful(model, tight, steps)
    for step in steps:
        roomy.logits(step)
    assert total_cached(tight) <= 260 < total_cached(roomy)


def total_cached(target: TargetModel) -> int:
    return sum(target.cached_tokens(session) for session in range(6))


def bytes_for(model: PreTrainedModel, num_tokens: int) -> int:
    config = model.config
    heads = getattr(config, "num_key_value_heads", config.num_attention_heads)
    return (
        num_tokens
        * config.num_hidden_layers
        * 2
        * heads
        * (config.hidden_size // config.num_attention_heads)
        * 4
    )


@pytest.fixture
def llama() -> PreTrainedModel:
    return build(FAMILIES["llama"]())


def test_a_rewound_cache_gives_the_same_logits(llama: PreTrainedModel) -> None:
    target = TargetModel(loaded(llama))
    rejected = Pass("s", [5, 6, 7, 8, 9, 10], 3)
    resampled = Pass("s", [5, 6, 7, 8, 77], 2)
    assert_lawful(llama, target, [[rejected], [resampled], [rejected]])


def test_only_what_is_new_is_computed(llama: PreTrainedModel) -> None:
    target = TargetModel(loaded(llama))
    target.logits([Pass("s", range(20), 1)])
    assert target.cached_tokens("s") == 20
    assert target.num_missing(Pass("s", range(24), 4)) == 4
    assert target.num_missing(Pass("s", range(24), 6)) == 6  # two wanted rows are cached: computed anew
    assert target.num_missing(Pass("s", [*range(10), 50], 1)) == 1


def test_a_forgotten_session_leaves_nothing(llama: PreTrainedModel) -> None:
    target = TargetModel(loaded(llama))
    target.logits([Pass("s", range(20), 1), Pass("t", range(30), 1)])
    target.forget("s")
    target.forget("never seen")
    assert target.num_sessions == 1
    assert target.cached_tokens("s") == 0


def test_a_long_prompt_can_be_fed_in_pieces_beside_others(llama: PreTrainedModel) -> None:
    target = TargetModel(loaded(llama))
    prompt = Pass("long", [3, 1, 4] * 40, 2)
    lengths: list[int] = []
    piece = None
    while piece is not prompt:
        piece = prompt.shortened(target.num_missing(prompt), max_tokens=50)
        lengths.append(len(piece.tokens))
        assert_lawful(llama, target, [[piece, Pass("short", [7] * (5 + len(lengths)), 1)]])
    assert lengths == [50, 100, 120]


def test_many_wanted_rows_are_not_cut_into_pieces_for_ever(llama: PreTrainedModel) -> None:
    target = TargetModel(loaded(llama), chunk_tokens=16)
    deferred = Pass("s", [3, 1, 4] * 40, 90)
    assert len(deferred.shortened(120, max_tokens=50).tokens) == 30
    assert_lawful(llama, target, [[deferred.shortened(120, max_tokens=50)]])
    assert deferred.shortened(target.num_missing(deferred), max_tokens=50) is deferred
    assert_lawful(llama, target, [[deferred]])


def test_sessions_that_begin_alike_compute_the_beginning_once(llama: PreTrainedModel) -> None:
    target = TargetModel(loaded(llama))
    prompt = [9, 8, 7, 6, 5] * 10
    target.logits([Pass("first", prompt, 1)])
    assert target.num_missing(Pass("second", [*prompt[:48], 1, 2, 3], 2)) == 3
    assert target.num_missing(Pass("third", [4, *prompt[1:]], 2)) == 50
    assert_lawful(
        llama, target, [[Pass("second", [*prompt[:48], 1, 2, 3], 2), Pass("third", [4, *prompt], 4)]]
    )
    target.forget("first")
    assert_lawful(llama, target, [[Pass("fourth", prompt, 50)], [Pass("second", prompt, 3)]])


def test_a_pass_that_failed_leaves_no_half_written_cache(
    llama: PreTrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = TargetModel(loaded(llama))
    first, second = Pass("s", [5, 6, 7] * 10, 2), Pass("s", [*[5, 6, 7] * 8, 1, 2, 3], 2)
    target.logits([first])
    with monkeypatch.context() as broken:
        broken.setattr(llama.model.layers[2].mlp, "forward", raise_out_of_memory)
        with pytest.raises(MemoryError):
            target.logits([second])
    assert_lawful(llama, target, [[second], [first]])


def raise_out_of_memory(*_: object) -> None:
    raise MemoryError


@pytest.mark.parametrize(
    ("family", "reason"),
    [
        ("gemma2-softcap", "attention with softcap"),
        ("gpt-oss-sinks", "attention with s_aux"),
        ("llama4-chunks", "a mask of the model's own"),
        ("gpt2", None),
        ("mistral-sliding", None),
    ],
)
def test_attention_that_cannot_be_packed_is_noticed_at_load(
    family: str, reason: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    TargetModel(loaded(build(FAMILIES[family]())))
    warnings = [record.getMessage() for record in caplog.records if record.name.startswith("cloud_worker")]
    assert len(warnings) == (2 if reason else 0)
    assert not reason or reason in warnings[0]


def test_tokens_outside_the_model_and_overlong_sequences_are_refused(llama: PreTrainedModel) -> None:
    target = TargetModel(loaded(llama))
    with pytest.raises(ValueError, match="outside 0"):
        target.logits([Pass("s", [VOCAB_SIZE])])
    with pytest.raises(ValueError, match="exceed the limit of 512"):
        target.logits([Pass("s", [1] * 513)])
    with pytest.raises(ValueError, match="twice"):
        target.logits([Pass("s", [1]), Pass("s", [2])])


def test_a_pass_must_ask_for_rows_it_has() -> None:
    with pytest.raises(ValueError, match="3 rows of 2 tokens"):
        Pass("s", [1, 2], 3)
    with pytest.raises(ValueError, match="at least one token"):
        Pass("s", [], 0)


@pytest.fixture
def folder(tmp_path: Path, llama: PreTrainedModel) -> Path:
    """A saved model with a tokenizer of fewer tokens than the logits are wide, one of them added."""
    llama.save_pretrained(tmp_path)
    tokenizer = Tokenizer(WordLevel({f"w{i}": i for i in range(90)}, unk_token="w0"))
    tokenizer.add_special_tokens(["<end>"])
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    return tmp_path


def test_a_saved_folder_loads_with_its_vocabulary_and_limits(folder: Path, llama: PreTrainedModel) -> None:
    target = TargetModel.load(str(folder), device="cpu")
    assert target.vocab_size == VOCAB_SIZE
    assert target.vocabulary["<end>"] == 90
    assert len(target.vocabulary) == 91
    assert target.eos_ids == {1}
    assert target.max_positions == 512
    assert_lawful(llama, target, [[Pass("s", range(40), 5)]])


def test_bfloat16_stays_near_float32(folder: Path, llama: PreTrainedModel) -> None:
    target = TargetModel.load(str(folder), device="cpu", dtype="bfloat16")
    one = Pass("s", range(40), 5)
    expected = expected_rows(llama, one)
    assert np.abs(target.logits([one])[0] - expected).max() < 0.1 * np.abs(expected).max()


def test_frequencies_that_change_with_the_length_limit_it(folder: Path) -> None:
    settings = json.loads((folder / "config.json").read_text())
    factors = {"short_factor": [1.0] * 4, "long_factor": [2.0] * 4}
    settings["rope_parameters"] = {
        "rope_type": "longrope", "rope_theta": 1e4, "original_max_position_embeddings": 128, **factors,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(settings))
    assert TargetModel.load(str(folder), device="cpu").max_positions == 128


class Placement(TypedDict, total=False):
    """Where and how to load."""

    device: str
    dtype: str


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("/no/such/folder", {}, "there is no folder /no/such/folder"),
        ("./no-such-folder", {}, "there is no folder"),
        ("FOLDER", {"dtype": "int3"}, "unknown dtype 'int3': choose one of float32"),
        ("FOLDER", {"device": "tpu"}, "unknown device 'tpu'"),
    ],
)
def test_what_cannot_be_loaded_is_named(folder: Path, name: str, settings: Placement, message: str) -> None:
    with pytest.raises(TargetModelError, match=message):
        TargetModel.load(name.replace("FOLDER", str(folder)), **settings)


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here")
def test_a_missing_gpu_is_named(folder: Path) -> None:
    with pytest.raises(TargetModelError, match="no CUDA GPU"):
        TargetModel.load(str(folder), device="cuda")


def test_damaged_weights_are_refused(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:2000])
    with pytest.raises(TargetModelError, match="cannot load"):
        TargetModel.load(str(folder), device="cpu")


def test_missing_weights_are_refused_not_drawn_at_random(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    del weights["model.layers.1.self_attn.q_proj.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(TargetModelError, match=r"1 weights are missing, the first is model\.layers\.1"):
        TargetModel.load(str(folder), device="cpu")


def test_a_folder_without_a_tokenizer_is_refused(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()
    with pytest.raises(TargetModelError, match="no readable tokenizer"):
        TargetModel.load(str(folder), device="cpu")


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TargetModelError, match=r"has no config\.json"):
        TargetModel.load(str(tmp_path))


def test_what_is_no_causal_language_model_is_refused(folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps({"model_type": "t5"}))
    with pytest.raises(TargetModelError, match="Unrecognized configuration"):
        TargetModel.load(str(folder), device="cpu")


def test_a_model_with_recurrent_state_is_refused(folder: Path) -> None:
    mamba = MambaConfig(vocab_size=VOCAB_SIZE, hidden_size=16, num_hidden_layers=1)
    AutoModelForCausalLM.from_config(mamba).save_pretrained(folder)
    with pytest.raises(TargetModelError, match="recurrent state that cannot be rewound"):
        TargetModel.load(str(folder), device="cpu")


def test_a_model_whose_layers_do_not_all_use_attention_is_refused() -> None:
    model = build(Lfm2Config(**SIZES, layer_types=["conv", "full_attention", "conv"]))
    with pytest.raises(TargetModelError, match="whose layers all use attention"):
        TargetModel(loaded(model))


def test_a_model_that_looks_ahead_is_refused() -> None:
    sizes = {
        key: value
        for key, value in SIZES.items()
        if key in ("hidden_size", "num_hidden_layers", "vocab_size")
    }
    model = build(BertConfig(**sizes, num_attention_heads=4, intermediate_size=48))
    with pytest.raises(TargetModelError, match="cannot be rewound"):
        TargetModel(loaded(model))


def test_a_cache_too_small_for_one_prompt_is_refused(llama: PreTrainedModel) -> None:
    with pytest.raises(TargetModelError, match="holds only 2 tokens"):
        TargetModel(loaded(llama), cache_bytes=bytes_for(llama, 2))
