"""Loads a causal language model with its vocabulary and limits; every failure is a one-line error.

Law: an incomplete model is refused, never completed with random weights.
"""

import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError
from tokenizers import Tokenizer
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PretrainedConfig, PreTrainedModel
from transformers.distributed.configuration_utils import DistributedConfig
from transformers.utils.hub import cached_file
from transformers.utils.logging import disable_progress_bar

from cloud_worker.target_model.errors import TargetModelError, first_line
from cloud_worker.target_model.gguf_source import SUFFIX, GgufSource, open_gguf
from common.grammar.errors import UnusableGrammarError

DEMO_FOLDER = Path(__file__).parents[1] / "demo_model"
NO_LIMIT = 1 << 20  # positions, for models whose configuration has no limit
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def _no_tokenizer() -> Tokenizer:
    raise UnusableGrammarError(
        "the worker's model has no tokenizer.json, which a grammar needs; use a folder that has one"
    )


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model in memory, and what the worker needs to know about it."""

    model: PreTrainedModel
    vocabulary: Mapping[str, int]
    eos_ids: frozenset[int]
    max_positions: int
    tokenizer: Callable[[], Tokenizer] = _no_tokenizer  # for grammars: raises UnusableGrammarError


def load(
    name: str, *, device: str, dtype: str, device_map: str | None = None, tensor_parallel: int = 1
) -> Loaded:
    """Load a Hugging Face folder, a hub name or a GGUF file ("demo": the bundled model) for inference.

    `device` is auto, cpu or cuda; `dtype` one of DTYPES; `device_map` "auto" spreads layers over all GPUs.
    With `tensor_parallel` above 1, this process loads its share as one of that many in a process group.
    """
    if dtype not in DTYPES:
        raise TargetModelError(f"unknown dtype {dtype!r}: choose one of {', '.join(DTYPES)}")
    gguf = open_gguf(name)
    source = name if gguf else _source(name)
    if tensor_parallel > 1:
        placement = {"distributed_config": DistributedConfig(tp_size=tensor_parallel)}
    else:
        placement = {"device_map": device_map or choose_device(device)}
    if gguf is None:
        model = _model(source, {"pretrained_model_name_or_path": source, **placement}, DTYPES[dtype])
    else:
        model = _gguf_model(source, gguf, placement, dtype)
    model.eval().requires_grad_(False)
    if getattr(model, "_is_stateful", False):
        raise TargetModelError(
            f"{name} keeps a recurrent state that cannot be rewound after a rejection: choose a model "
            "whose layers all use attention"
        )
    if gguf is not None:
        return Loaded(model, gguf.vocabulary, gguf.eos_ids, _max_positions(model))
    tokenizer = partial(_tokenizer, source)
    return Loaded(model, _vocabulary(source), _eos_ids(model), _max_positions(model), tokenizer)


def _source(name: str) -> str:
    if name == "demo":
        name = str(DEMO_FOLDER)
    path = Path(os.path.expanduser(name))
    if path.is_dir():
        if not (path / "config.json").is_file():
            files = sorted(each.name for each in path.glob(f"*{SUFFIX}"))
            choice = f"{path / files[0]}" if files else "a folder that transformers saved"
            raise TargetModelError(f"the folder {path} has no config.json: choose {choice}")
        return str(path)
    if path.is_absolute() or name.startswith((".", "~")) or name.count("/") > 1:
        raise TargetModelError(
            f"there is no folder {path}: choose a model folder or a name on the Hugging Face hub"
        )
    return name


def choose_device(device: str) -> str:
    """cpu or cuda, for a setting of auto, cpu or cuda; TargetModelError if the device is missing."""
    has_cuda = torch.cuda.is_available()
    if device == "auto":
        return "cuda" if has_cuda else "cpu"
    if device not in ("cpu", "cuda"):
        raise TargetModelError(f"unknown device {device!r}: choose auto, cpu or cuda")
    if device == "cuda" and not has_cuda:
        raise TargetModelError(
            "device cuda was asked for, but torch sees no CUDA GPU: choose cpu, or install a CUDA build"
        )
    return device


def check_split(name: str, num_shares: int) -> None:
    """Raise TargetModelError if the model cannot be split into `num_shares`: attention is split by heads."""
    if open_gguf(name) is not None:
        raise TargetModelError(
            f"{name} cannot be split over processes: use device_map, or the model's own folder"
        )
    source = _source(name)
    config = _config(source).get_text_config()
    num_heads = getattr(config, "num_attention_heads", 1)
    num_key_value_heads = getattr(config, "num_key_value_heads", None) or num_heads
    if num_heads % num_shares or num_key_value_heads % num_shares:
        raise TargetModelError(
            f"{source} has {num_heads} attention heads and {num_key_value_heads} key/value heads, which "
            f"cannot be split evenly over {num_shares} processes: choose another tensor_parallel"
        )
    if not getattr(config, "base_model_tp_plan", None):
        raise TargetModelError(f"transformers has no tensor parallel plan for {source}: use device_map")


def _config(source: str) -> PretrainedConfig:
    try:
        return AutoConfig.from_pretrained(source)
    except (OSError, ValueError, KeyError) as error:
        raise TargetModelError(f"cannot read the configuration of {source}: {first_line(error)}") from error


def _gguf_model(
    source: str, gguf: GgufSource, placement: Mapping[str, object], dtype: str
) -> PreTrainedModel:
    try:
        with gguf.logged(dtype, DTYPES[dtype].itemsize):
            return _model(source, {**gguf.arguments, **placement}, DTYPES[dtype])
    except TargetModelError:
        raise
    except Exception as error:  # the reader of transformers fails in its own ways
        raise TargetModelError(
            f"cannot load {source} as a causal language model: {first_line(error)}"
        ) from error


def _model(source: str, arguments: Mapping[str, Any], dtype: torch.dtype) -> PreTrainedModel:
    disable_progress_bar()  # the output of a worker is a log
    try:
        loaded = AutoModelForCausalLM.from_pretrained(dtype=dtype, output_loading_info=True, **arguments)
    except (OSError, ValueError, RuntimeError, ImportError, KeyError, SafetensorError) as error:
        reason = first_line(error)
        raise TargetModelError(f"cannot load {source} as a causal language model: {reason}") from error
    model, info = cast("tuple[PreTrainedModel, dict[str, set[str]]]", loaded)
    if info["missing_keys"]:
        missing = sorted(info["missing_keys"])
        raise TargetModelError(
            f"{source} is incomplete: {len(missing)} weights are missing, the first is {missing[0]}: "
            "download it again"
        )
    return model


def _vocabulary(source: str) -> Mapping[str, int]:
    """Token -> id, from tokenizer.json as devices read it, else from any other tokenizer."""
    try:
        path = cached_file(source, "tokenizer.json", _raise_exceptions_for_missing_entries=False)
        if path is not None:
            return _read_tokenizer(path).get_vocab(with_added_tokens=True)
        return AutoTokenizer.from_pretrained(source).get_vocab()
    except (OSError, ValueError, ImportError, KeyError, json.JSONDecodeError) as error:
        raise TargetModelError(f"{source} has no readable tokenizer: add its tokenizer.json") from error


def _tokenizer(source: str) -> Tokenizer:
    path = cached_file(source, "tokenizer.json", _raise_exceptions_for_missing_entries=False)
    if path is None:
        return _no_tokenizer()
    try:
        return _read_tokenizer(path)
    except TargetModelError as error:
        raise UnusableGrammarError(str(error)) from error


def _read_tokenizer(path: str) -> Tokenizer:
    try:
        return Tokenizer.from_file(path)
    except Exception as error:  # tokenizers raises nothing more specific
        raise TargetModelError(f"{path} is not a tokenizer ({error}): copy or download it again") from error


def _eos_ids(model: PreTrainedModel) -> frozenset[int]:
    for config in (model.generation_config, model.config.get_text_config()):
        eos = getattr(config, "eos_token_id", None)
        if eos is not None:
            return frozenset([eos] if isinstance(eos, int) else cast("list[int]", eos))
    return frozenset()


def _max_positions(model: PreTrainedModel) -> int:
    """The model's limit, or the length from which its rotary frequencies change.

    Beyond that length, cached keys would have other frequencies, and logits would depend on the cache.
    """
    config = model.config.get_text_config()
    limits = [NO_LIMIT]
    if isinstance(limit := getattr(config, "max_position_embeddings", None), int):
        limits.append(limit)
    for rope in _rope_settings(config):
        if rope.get("rope_type") in ("longrope", "dynamic") and "original_max_position_embeddings" in rope:
            limits.append(int(rope["original_max_position_embeddings"]))
    return min(limits)


def _rope_settings(config: PretrainedConfig) -> Iterator[dict[str, Any]]:
    rope = getattr(config, "rope_parameters", None)
    if isinstance(rope, dict):
        yield cast("dict[str, Any]", rope)
        yield from (one for one in cast("dict[str, Any]", rope).values() if isinstance(one, dict))
