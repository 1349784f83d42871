"""A GGUF file as a Hugging Face folder, which everything else of the export reads.

Law: the folder is whole or there is none. Weights are dequantised, never completed; tokenizer, chat template,
end tokens and sampling are those of the file.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from common.gguf.facts import (
    architecture,
    check_model,
    end_ids,
    generation_settings,
    num_weights,
    quantisation,
    special_id,
    text_of,
    vocabulary,
)
from common.gguf.header import GgufError, Header, read_header
from common.gguf.layout import WEIGHT_TYPES
from common.gguf.rope import rope_scaling, with_scaling
from edge_agent.errors import ModelError
from edge_agent.export.gguf_tokenizer import write_tokenizer
from edge_agent.export.graphs import one_line


def local_file(source: str, fetch: Callable[[str, list[str]], Path]) -> Path:
    """The file that the name means; `fetch` downloads files of a repository into a folder."""
    path = Path(source).expanduser()
    repository, colon, file = source.partition(":")
    if path.is_file():
        return path
    if not colon or repository.count("/") != 1 or repository.startswith((".", "~", "/")):
        raise ModelError(f"There is no file at {path}: give a GGUF file, a folder or a hub name.")
    path = fetch(repository, [file]) / file
    if not path.is_file():
        raise ModelError(f"'{repository}' on the hub has no file {file}: check the name.")
    return path


def write_folder(path: Path, folder: Path, progress: Callable[[str], None]) -> None:
    """Write the model in the GGUF file `path` to the empty `folder`; ModelError if it cannot be used."""
    try:
        header = read_header(path)
        check_model(header)
        scaling = rope_scaling(header)
        progress(
            f"Reading {path.name}: {architecture(header)}, {num_weights(header) / 1e6:,.1f} million weights, "
            f"mostly {quantisation(header)}; they are converted to {_dtype_name(header)}, which takes "
            f"{num_weights(header) * (4 if _dtype_name(header) == 'float32' else 2) / 1e9:.2f} GB ..."
        )
        write_tokenizer(header, folder, progress)
        _write_settings(header, folder)
        _write_weights(header, folder, scaling)
    except GgufError as error:
        raise ModelError(f"{one_line(error)}.") from error


def _write_weights(header: Header, folder: Path, scaling: Any) -> None:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig

    parent, name = header.path.parent, header.path.name
    try:
        config: Any = AutoConfig.from_pretrained(parent, gguf_file=name)
        if scaling:
            config.rope_parameters = with_scaling(config.rope_parameters or {}, scaling)
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            parent,
            gguf_file=name,
            config=config,
            dtype=getattr(torch, _dtype_name(header)),
            output_loading_info=True,
        )
    except Exception as error:  # every file fails in its own way
        raise GgufError(f"transformers cannot read {header.path} ({one_line(error)})") from error
    model, info = loaded
    if info["missing_keys"]:
        missing = sorted(info["missing_keys"])
        raise GgufError(
            f"{header.path} is incomplete: {len(missing)} weights are missing, first {missing[0]}"
        )
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config  # the weights are plain now, and would not be saved
    model.hf_quantizer, model.is_quantized, model.quantization_method = None, False, None
    model.config.eos_token_id = sorted(end_ids(header)) or None
    model.generation_config = GenerationConfig()  # `_write_settings` has written the file's own
    settings = (folder / "generation_config.json").read_text(encoding="utf-8")
    model.save_pretrained(folder)
    (folder / "generation_config.json").write_text(settings, encoding="utf-8")


def _write_settings(header: Header, folder: Path) -> None:
    """Special tokens, chat template, end tokens and sampling."""
    tokens = {number: token for token, number in vocabulary(header).items()}
    ids = {name: special_id(header, key) for name, key in _SPECIAL.items()}
    settings: dict[str, object] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        **{f"{name}_token": tokens[one] for name, one in ids.items() if one in tokens},
    }
    _write_json(folder / "tokenizer_config.json", settings)
    template = text_of(header, "tokenizer.chat_template")
    if template:
        (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
    generation = {
        **{f"{name}_token_id": one for name, one in ids.items() if one is not None and name != "unk"},
        "eos_token_id": sorted(end_ids(header)),
        **generation_settings(header),
    }
    _write_json(folder / "generation_config.json", generation)


_SPECIAL = {
    "bos": "bos_token_id",
    "eos": "eos_token_id",
    "pad": "padding_token_id",
    "unk": "unknown_token_id",
}


def _dtype_name(header: Header) -> str:
    """The number format of the folder: half precision keeps what a quantised weight is worth."""
    kinds = {WEIGHT_TYPES[one.weight_type].name for one in header.tensors.values() if len(one.shape) > 1}
    if "F32" in kinds:
        return "float32"
    return "bfloat16" if "BF16" in kinds else "float16"


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
