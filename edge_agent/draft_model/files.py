"""What the files of a draft model specify: the graph, the end tokens, sampling, the chat template.

Law: only small text files are read here, into one frozen value. Anything wrong with them is a `ModelError`,
whose message says what to do.
"""

import glob
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard, cast

from common.protocol.limits import LEAST_REPETITION_PENALTY, MAX_PENALTY, MAX_REPETITION_PENALTY
from common.sampling.distribution import Sampling
from edge_agent.draft_model.choice import GENAI_CONFIG, choose, graphs, has_halves
from edge_agent.draft_model.unhonoured import unhonoured
from edge_agent.errors import ModelError

DEMO = "demo"
DEMO_FOLDER = Path(__file__).parents[1] / "demo_model"

NO_GRAPH = "has no ONNX graph"
HALVES = "has graphs for the beginning and the rest of a text only (decoder_model, decoder_with_past_model)"
_DEPTHS = ("*/", "*/*/", "*/*/*/")  # where folders with a configuration of their own are looked for
MAX_BYTES = 64 * 1024 * 1024  # of a file of settings
MAX_VOCABULARY = 2**31
MAX_NUMBER = 2**31 - 1
_BAD_TEMPLATE = "The chat template in tokenizer_config.json is neither a text nor a list of named ones."
_MAX_POSITION_KEYS = ("max_position_embeddings", "n_positions", "n_ctx", "seq_length", "max_seq_len")
_CACHE_HEAD_KEYS = ("num_key_value_heads", "num_attention_heads", "n_head")


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What the files of one draft model specify.

    `max_positions` counts prompt and answer together. `num_cache_heads` and `head_size` are None if the
    configuration does not state them; a graph with symbolic dimensions needs them. `special_tokens` maps the
    names used in chat templates (bos_token, eos_token, ...) to token strings. `unhonoured` names the fields
    of generation_config.json that would change the text and are not applied.
    """

    folder: Path
    onnx_path: Path
    eos_ids: frozenset[int]
    sampling: Sampling
    max_positions: int
    num_cache_heads: int | None
    head_size: int | None
    chat_template: str | None
    special_tokens: Mapping[str, str]
    unhonoured: tuple[str, ...] = ()

    @property
    def num_bytes(self) -> int:
        """Bytes of the graph and the weights beside it."""
        return sum(path.stat().st_size for path in self.graph_files)

    @property
    def graph_files(self) -> list[Path]:
        """The graph and the files of its weights, which begin with its name."""
        return sorted(self.onnx_path.parent.glob(f"{glob.escape(self.onnx_path.name)}*"))


def read_info(folder: Path, model_file: str | None = None) -> ModelInfo:
    """Read config.json, generation_config.json and tokenizer_config.json in `folder`, and choose its graph.

    `model_file` names the graph, relative to `folder`; without it `choose` finds it. A graph in a folder with
    a configuration and a tokenizer of its own goes with these: that is the `folder` of the result. Raises
    ModelError when the folder, the graph or the configuration is missing or invalid.
    """
    if not folder.is_dir():
        raise ModelError(f"There is no model folder at {folder}: give a folder, a hub name, or '{DEMO}'.")
    onnx_path = _choose_graph(folder, model_file)
    if onnx_path is not None and _stands_alone(onnx_path.parent):
        folder = onnx_path.parent
    config = _text_config(_read_json(folder / "config.json"))
    builder = _section(_read_json(folder / GENAI_CONFIG), "model")
    if not config and not builder:
        raise ModelError(f"{folder} has no config.json: copy it from the model that was exported.")
    if onnx_path is None:
        raise ModelError(f"{folder} {NO_GRAPH}: make one with `edge-agent export`.")
    decoder = _section(builder, "decoder")
    generation = _read_json(folder / "generation_config.json")
    tokenizer = _read_json(folder / "tokenizer_config.json")
    return ModelInfo(
        folder=folder,
        onnx_path=onnx_path,
        eos_ids=_eos_ids(generation, config, builder),
        sampling=_sampling(generation),
        max_positions=_max_positions(folder, config, builder),
        num_cache_heads=_first_int(decoder, ("num_key_value_heads",)) or _first_int(config, _CACHE_HEAD_KEYS),
        head_size=_first_int(decoder, ("head_size",)) or _head_size(config),
        chat_template=_chat_template(folder, tokenizer),
        special_tokens=_special_tokens({**_read_json(folder / "special_tokens_map.json"), **tokenizer}),
        unhonoured=unhonoured(generation),
    )


def _choose_graph(folder: Path, model_file: str | None) -> Path | None:
    names = _names(folder)
    if model_file is not None:
        if not (folder / model_file).is_file():
            raise ModelError(f"{folder} has no file {model_file}: it has {_listed(names)}.")
        return folder / model_file
    chosen = choose(names)
    if len(chosen) > 1:
        raise ModelError(f"{folder} {several(chosen)}.")
    if has_halves(names):
        raise ModelError(f"{folder} {HALVES}: make a whole one with `edge-agent export`.")
    return folder / chosen[0] if chosen else None


def several(names: Sequence[str]) -> str:
    """What to do about several graphs."""
    return f"has several graphs ({', '.join(names)}): set `model_file` to one"


def _names(folder: Path) -> list[str]:
    """The graphs, as a hub lists them; where there are none, those of folders with their own configuration.

    A user may name any folder, so nothing else is searched.
    """
    found = [*folder.glob("*.onnx"), *folder.glob("onnx/*.onnx")]
    if not found:
        configs = [path for depth in _DEPTHS for path in folder.glob(depth + GENAI_CONFIG)]
        found = [*configs, *(path for config in configs for path in config.parent.glob("*.onnx"))]
    return [path.relative_to(folder).as_posix() for path in found if path.is_file()]


def _stands_alone(folder: Path) -> bool:
    return (folder / GENAI_CONFIG).is_file() and (folder / "tokenizer.json").is_file()


def _listed(names: Sequence[str]) -> str:
    return ", ".join(graphs(names)) or "no *.onnx file"


def _eos_ids(*sources: Mapping[str, object]) -> frozenset[int]:
    """The end tokens of the first source that has any."""
    for source in sources:
        value = source.get("eos_token_id")
        if value is None or value == []:
            continue
        ids = cast("list[object]", value) if isinstance(value, list) else [value]
        if not all(_is_int(one) and -1 <= one < MAX_VOCABULARY for one in ids):
            raise ModelError(f"eos_token_id is {_shown(value)}, not token ids: correct the model's config.")
        return frozenset(one for one in ids if _is_int(one) and one >= 0)  # some write -1 for none
    return frozenset()


def _sampling(generation: Mapping[str, object]) -> Sampling:
    """What the model recommends: greedy unless do_sample is true; filters it does not name are off."""
    least, most = LEAST_REPETITION_PENALTY, MAX_REPETITION_PENALTY
    penalties: dict[str, Any] = {
        "repetition_penalty": _number(generation, "repetition_penalty", 1.0, low=least, high=most),
        **{
            name: _number(generation, name, 0.0, low=-MAX_PENALTY, high=MAX_PENALTY)
            for name in ("presence_penalty", "frequency_penalty")
        },
    }
    if generation.get("do_sample") is not True:
        return Sampling(temperature=0.0, **penalties)
    return Sampling(
        temperature=_number(generation, "temperature", 1.0, low=0.0, high=100.0),
        top_k=int(_number(generation, "top_k", 0, low=0.0, high=1e6)),
        top_p=_number(generation, "top_p", 1.0, low=1e-6, high=1.0),
        min_p=_number(generation, "min_p", 0.0, low=0.0, high=1.0),
        **penalties,
    )


def _number(source: Mapping[str, object], key: str, default: float, *, low: float, high: float) -> float:
    """The number, which must be in the range of the setting of the same name."""
    value = source.get(key)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise ModelError(
            f"generation_config.json has {key} {_shown(value)}, not a number from {low:g} to {high:g}: "
            "correct it."
        )
    return float(value)


def _max_positions(folder: Path, config: Mapping[str, object], builder: Mapping[str, object]) -> int:
    found = _first_int(config, _MAX_POSITION_KEYS) or _first_int(builder, ("context_length",))
    if found is None:
        raise ModelError(
            f"{folder}/config.json does not state the longest sequence: add max_position_embeddings to it."
        )
    return found


def _head_size(config: Mapping[str, object]) -> int | None:
    width = _first_int(config, ("hidden_size", "n_embd"))
    num_heads = _first_int(config, ("num_attention_heads", "n_head"))
    return _first_int(config, ("head_dim",)) or (width // num_heads if width and num_heads else None)


def _chat_template(folder: Path, tokenizer: Mapping[str, object]) -> str | None:
    """The template named "default"; its own file wins over tokenizer_config.json, as in transformers."""
    path = folder / "chat_template.jinja"
    if path.is_file():
        try:
            if path.stat().st_size > MAX_BYTES:
                raise ModelError(f"The chat template {path} is too large: copy it again.")
            return path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ModelError(f"The chat template {path} cannot be read ({error}): copy it again.") from error
    template = tokenizer.get("chat_template")
    if isinstance(template, list):
        named = [cast("dict[str, object]", one) for one in cast("list[object]", template) if _is_object(one)]
        if len(named) < len(cast("list[object]", template)):
            raise ModelError(_BAD_TEMPLATE)
        template = next((item.get("template") for item in named if item.get("name") == "default"), None)
    if template is not None and not isinstance(template, str):
        raise ModelError(_BAD_TEMPLATE)
    return template


def _special_tokens(tokenizer: Mapping[str, object]) -> dict[str, str]:
    """Every `*_token` that is a string, or an added token in object form."""
    tokens: dict[str, str] = {}
    for name, value in tokenizer.items():
        content = cast("dict[str, object]", value).get("content") if isinstance(value, dict) else value
        if name.endswith("_token") and isinstance(content, str):
            tokens[name] = content
    return tokens


def _text_config(config: Mapping[str, object]) -> Mapping[str, object]:
    """The configuration, with the language model's part of a multimodal one merged over the rest."""
    return {**config, **_section(config, "text_config")}


def _section(source: Mapping[str, object], key: str) -> Mapping[str, object]:
    value = source.get(key)
    return cast("dict[str, object]", value) if isinstance(value, dict) else {}


def _first_int(source: Mapping[str, object], keys: Sequence[str]) -> int | None:
    for key in keys:
        value = source.get(key)
        if _is_int(value) and value > MAX_NUMBER:
            raise ModelError(f"the model's config has {key} {_shown(value)}, which is too large: correct it.")
        if _is_int(value) and value > 0:
            return value
    return None


def _is_int(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_object(value: object) -> bool:
    return isinstance(value, dict)


def _shown(value: object) -> str:
    """The value as it fits into a line; a huge integer has no decimal digits in Python."""
    if isinstance(value, int) and abs(value) > 10**18:
        return "a huge number"
    return repr(value)[:50]


def _read_json(path: Path) -> Mapping[str, object]:
    """The object in a JSON file; empty if there is no such file."""
    try:
        if not path.is_file():
            return {}
        if path.stat().st_size > MAX_BYTES:
            raise ModelError(f"{path} has more than {MAX_BYTES >> 20} MiB: copy or download it again.")
        value = cast("object", json.loads(path.read_text(encoding="utf-8")))
    except RecursionError as error:
        raise ModelError(f"{path} is nested too deeply: copy or download it again.") from error
    except ValueError as error:  # also bytes that are not UTF-8, huge integers
        raise ModelError(f"{path} is not valid JSON ({error}): copy or download it again.") from error
    except OSError as error:
        raise ModelError(f"{path} cannot be read ({error.strerror}).") from error
    if not isinstance(value, dict):
        raise ModelError(f"{path} is not a JSON object: copy or download it again.")
    return cast("dict[str, object]", value)
