"""Writes the pair as the two ends load it: the target as safetensors, the draft as one ONNX file.

Law: both folders carry the same tokenizer, byte for byte; the draft's graph gives the logits of the model
that it was made from.
"""

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from transformers import GenerationConfig, LlamaForCausalLM, PreTrainedTokenizerFast

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json")
MODEL_FILES = ("config.json", "generation_config.json")
TOLERANCE = 1e-3

FeedArray = NDArray[np.int64] | NDArray[np.float32]


def write_torch(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path, dtype: torch.dtype
) -> None:
    """The model and the tokenizer as a Hugging Face folder; the model itself is left in float32."""
    folder.mkdir(parents=True, exist_ok=True)
    model.generation_config = GenerationConfig(
        do_sample=True,
        temperature=1.0,
        top_k=0,
        eos_token_id=model.config.eos_token_id,
        pad_token_id=model.config.pad_token_id,
    )
    torch.nn.Module.to(model, dtype)
    model.save_pretrained(folder)
    torch.nn.Module.to(model, torch.float32)
    tokenizer.save_pretrained(folder, save_jinja_files=False)


def write_onnx(source: Path, folder: Path) -> None:
    """The Hugging Face folder `source` as model.onnx in float32, with the builder's fused attention."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as work:
        built, cache = Path(work) / "built", Path(work) / "cache"
        command = [
            sys.executable,
            "-m",
            "onnxruntime_genai.models.builder",
            "-i",
            str(source),
            "-o",
            str(built),
        ]
        subprocess.run(
            [*command, "-p", "fp32", "-e", "cpu", "-c", str(cache)], check=True, stdout=subprocess.DEVNULL
        )
        graph = onnx.load(built / "model.onnx", load_external_data=True)
        onnx.save(graph, folder / "model.onnx", save_as_external_data=False)
    for name in (*TOKENIZER_FILES, *MODEL_FILES):
        shutil.copyfile(source / name, folder / name)


@torch.inference_mode()
def check_onnx(model: LlamaForCausalLM, folder: Path, tokens: list[int]) -> float:
    """The largest difference of the graph's logits from the model's; ValueError above TOLERANCE."""
    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    heads, head_dim = model.config.num_key_value_heads or 0, model.config.head_dim or 0
    feeds = _first_feeds(session, tokens, np.zeros((1, heads, 0, head_dim), np.float32))
    found = np.asarray(session.run(["logits"], feeds)[0])
    difference = float(np.abs(found - model(input_ids=torch.tensor([tokens])).logits.numpy()).max())
    if difference > TOLERANCE:
        raise ValueError(f"the ONNX graph's logits are off by {difference:.2e}")
    return difference


def _first_feeds(
    session: onnxruntime.InferenceSession, tokens: list[int], empty: NDArray[np.float32]
) -> dict[str, FeedArray]:
    """All tokens at once, empty keys and values, and whichever of mask and positions the graph asks for."""
    known: dict[str, FeedArray] = {
        "input_ids": np.array([tokens], np.int64),
        "attention_mask": np.ones((1, len(tokens)), np.int64),
        "position_ids": np.arange(len(tokens), dtype=np.int64)[None],
    }
    return {each.name: known.get(each.name, empty) for each in session.get_inputs()}


def write_held_out(path: Path, lines: list[dict[str, object]]) -> None:
    """One JSON object a line."""
    path.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), encoding="utf-8")
