"""The tokenizer and the end tokens of the target model, from its folder or the hub: its weights stay away.

Law: they are those that `cloud_worker.target_model` finds in the same folder, so a device sees no difference.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from huggingface_hub import hf_hub_download
from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError
from tokenizers import Tokenizer

from cloud_worker.engines.engine import EngineError

DEMO_FOLDER = Path(__file__).parents[1] / "demo_model"
CONFIGS = ("generation_config.json", "config.json")  # where end tokens are named, the first that does wins


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """What a worker needs of a model that runs elsewhere."""

    tokenizer: Tokenizer
    eos_ids: frozenset[int]

    @classmethod
    def read(cls, name: str) -> "ModelFolder":
        """A folder or a name on the hub ("demo": the bundled model); EngineError."""
        path = _file(name, "tokenizer.json")
        if path is None:
            raise EngineError(f"{name} has no tokenizer.json: set `model` to the folder of the served model")
        try:
            tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # tokenizers raises nothing more specific
            raise EngineError(f"{path} is not a tokenizer ({error}): copy or download it again") from error
        return cls(tokenizer, _eos_ids(name))

    @property
    def vocabulary(self) -> Mapping[str, int]:
        """Token -> id."""
        return self.tokenizer.get_vocab(with_added_tokens=True)


def _file(name: str, file: str) -> Path | None:
    folder = DEMO_FOLDER if name == "demo" else Path(os.path.expanduser(name))
    if folder.is_dir():
        return folder / file if (folder / file).is_file() else None
    if folder.is_absolute() or name.startswith((".", "~")) or name.count("/") > 1:
        raise EngineError(f"there is no folder {folder}: set `model` to the folder of the served model")
    try:
        return Path(hf_hub_download(name, file))
    except EntryNotFoundError:
        return None
    except (HfHubHTTPError, OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise EngineError(f"cannot get {file} of {name} from the hub: {reason}") from error


def _eos_ids(name: str) -> frozenset[int]:
    for file in CONFIGS:
        path = _file(name, file)
        if path is None:
            continue
        try:
            config = cast("object", json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError) as error:
            raise EngineError(f"{path} is not JSON: copy or download it again") from error
        found = _named(config)
        if found:
            return found
    return frozenset()


def _named(config: object) -> frozenset[int]:
    """The end tokens of a configuration, or of the text model in it."""
    fields = cast("dict[str, Any]", config) if isinstance(config, dict) else {}
    for source in (fields, fields.get("text_config")):
        eos = cast("dict[str, Any]", source).get("eos_token_id") if isinstance(source, dict) else None
        ids = cast("list[object]", eos) if isinstance(eos, list) else [eos]
        found = frozenset(one for one in ids if type(one) is int and one >= 0)
        if found:
            return found
    return frozenset()
