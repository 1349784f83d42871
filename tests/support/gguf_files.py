"""GGUF files of small Llama models, as llama.cpp's converter writes them. Needs the package gguf."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import gguf
import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM, PreTrainedModel

NORMAL, CONTROL, UNUSED = 1, 3, 5
_LAYER = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
_WHOLE = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}


def write_gguf(
    folder: Path,
    path: Path,
    *,
    weights: str = "F32",
    num_padding: int = 0,
    more: Mapping[str, Any] | None = None,
    without: Sequence[str] = (),
    tensors: Mapping[str, npt.NDArray[np.float32]] | None = None,
) -> Path:
    """The Llama model in `folder` as one file, its matrices of the type `weights`.

    `num_padding` tokens fill the vocabulary up. `more` is further metadata, `without` names keys and
    tensors to leave out, `tensors` are added.
    """
    model = cast("PreTrainedModel", AutoModelForCausalLM.from_pretrained(folder, dtype="float32"))
    config: Any = model.config
    writer = gguf.GGUFWriter(path, "llama")
    keys: dict[str, Any] = {
        "llama.block_count": config.num_hidden_layers,
        "llama.context_length": config.max_position_embeddings,
        "llama.embedding_length": config.hidden_size,
        "llama.feed_forward_length": config.intermediate_size,
        "llama.attention.head_count": config.num_attention_heads,
        "llama.attention.head_count_kv": config.num_key_value_heads,
        "llama.rope.freq_base": float(config.rope_parameters["rope_theta"]),
        "llama.rope.dimension_count": config.head_dim,
        "llama.attention.layer_norm_rms_epsilon": float(config.rms_norm_eps),
        "tokenizer.ggml.eos_token_id": config.eos_token_id,
        **_tokenizer_keys(folder, num_padding),
        **(more or {}),
    }
    for key, value in keys.items():
        if key not in without:
            _add(writer, key, value)
    kind = gguf.GGMLQuantizationType[weights]
    state = {name: value.numpy() for name, value in model.state_dict().items()}
    if config.tie_word_embeddings:
        state.pop("lm_head.weight", None)
    for name, value in state.items():
        stem = _name(name.removesuffix(".weight"))
        if ".attn_q" in stem or ".attn_k" in stem:
            num_heads = config.num_attention_heads if "_q" in stem else config.num_key_value_heads
            value = _interleaved(value, num_heads)
        if stem in ("token_embd", "output"):
            value = np.pad(value, ((0, num_padding), (0, 0)))
        if f"{stem}.weight" not in without:
            plain = value.ndim == 1 or kind is gguf.GGMLQuantizationType.F32
            stored = value if plain else gguf.quants.quantize(value, kind)
            writer.add_tensor(f"{stem}.weight", stored, raw_dtype=None if plain else kind)
    for name, value in (tensors or {}).items():
        writer.add_tensor(name, value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _tokenizer_keys(folder: Path, num_padding: int) -> dict[str, Any]:
    text = json.loads((folder / "tokenizer.json").read_text())
    vocabulary = Tokenizer.from_file(str(folder / "tokenizer.json")).get_vocab()
    special = {one["content"] for one in text["added_tokens"] if one["special"]}
    tokens = sorted(vocabulary, key=lambda token: vocabulary[token])
    padding = [f"[PAD{len(tokens) + number}]" for number in range(num_padding)]
    template = folder / "chat_template.jinja"
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.tokens": [*tokens, *padding],
        "tokenizer.ggml.token_type": [
            *(CONTROL if token in special else NORMAL for token in tokens),
            *[UNUSED] * num_padding,
        ],
        "tokenizer.ggml.merges": [
            one if isinstance(one, str) else " ".join(one) for one in text["model"]["merges"]
        ],
        "tokenizer.ggml.add_bos_token": False,
        "tokenizer.chat_template": template.read_text() if template.is_file() else settings["chat_template"],
    }


def _add(writer: gguf.GGUFWriter, key: str, value: object) -> None:
    match value:
        case bool():
            writer.add_bool(key, value)
        case int():
            writer.add_uint32(key, value)
        case float():
            writer.add_float32(key, value)
        case str():
            writer.add_string(key, value)
        case _:
            writer.add_array(key, cast("list[object]", value))


def _name(name: str) -> str:
    if name in _WHOLE:
        return _WHOLE[name]
    _, _, number, part = name.split(".", 3)
    return f"blk.{number}.{_LAYER[part]}"


def _interleaved(weight: npt.NDArray[np.float32], num_heads: int) -> npt.NDArray[np.float32]:
    """llama.cpp rotates neighbouring rows of a head, transformers the two halves."""
    heads = weight.reshape(num_heads, 2, weight.shape[0] // num_heads // 2, *weight.shape[1:])
    return heads.swapaxes(1, 2).reshape(weight.shape)
