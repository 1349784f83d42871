"""Writes the pair as the two ends load it: the target as safetensors, the draft as one ONNX file.

Law: both folders hold the same tokenizer, byte for byte; the draft's graph gives the logits of the model it
was exported from.
"""

import json
import shutil
import tempfile
from pathlib import Path

import onnx
import torch
from transformers import GenerationConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from edge_agent.export import ExportReport, export

TEXT_FILES = ("tokenizer.json", "tokenizer_config.json", "config.json", "generation_config.json")


def write_torch(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path, dtype: torch.dtype
) -> None:
    """Write model and tokenizer as a Hugging Face folder; the model itself stays in float32."""
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
    (folder / "model.safetensors").chmod(0o644)
    tokenizer.save_pretrained(folder, save_jinja_files=False)


def write_onnx(source: Path, folder: Path) -> ExportReport:
    """Write the Hugging Face folder `source` as one float32 file; the device's own export checks it."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as work:
        report = export(str(source), Path(work) / "exported", "fp32", num_threads=1)
        graph = onnx.load(Path(work) / "exported" / "model.onnx")
    onnx.save(graph, folder / "model.onnx", save_as_external_data=False)
    for name in TEXT_FILES:
        shutil.copyfile(source / name, folder / name)
    return report


def write_held_out(path: Path, lines: list[dict[str, object]]) -> None:
    """Write one JSON object per line."""
    path.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), encoding="utf-8")
