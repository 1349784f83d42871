"""From a model's name ("demo", a local folder, or a Hugging Face hub name) to a folder on this machine.

Law: an existing folder is never looked up on the network, and only one graph of a hub repository is fetched.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import cast

from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.constants import HF_HUB_OFFLINE
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
)
from huggingface_hub.utils.logging import set_verbosity_error

from edge_agent.draft_model.choice import choose, has_halves
from edge_agent.draft_model.files import DEMO, DEMO_FOLDER, HALVES, NO_GRAPH, several
from edge_agent.errors import ModelError

TIMEOUT = 5.0  # seconds for the hub's first answer
TEXT_FILES = ("*.json", "*.jinja")

# What a download can raise. The hub's errors extend those of its HTTP library: requests or httpx, depending
# on the version.
FAILURES = (OSError, HFValidationError, *cast("tuple[type[Exception], ...]", HfHubHTTPError.__bases__))


def resolve(name: str, *, model_file: str | None = None, offline: bool = False) -> Path:
    """The folder with the files of model `name`; those of a hub name are downloaded into the hub's cache.

    `model_file` is the graph to fetch, relative to the repository. With `offline`, or HF_HUB_OFFLINE in the
    environment, only the cache is used. Raises ModelError when there is no such model.
    """
    if name == DEMO:
        return DEMO_FOLDER
    folder = local_folder(name)
    if folder is not None:
        return folder
    offline = offline or HF_HUB_OFFLINE
    files = None if offline else _files_on_hub(name)
    if files is None:  # `read_info` looks for the graph: the hub's library wants all that it has heard of
        return fetch(name, TEXT_FILES, offline=True)
    graphs = graphs_to_fetch(name, model_file, files)
    return fetch(name, [*TEXT_FILES, *(f"{graph}*" for graph in graphs)])


def local_folder(name: str) -> Path | None:
    """The folder named `name`, or None for a hub name; raises ModelError for a path that does not exist."""
    folder = Path(os.path.expanduser(name))
    if folder.is_dir():
        return folder
    if name.lower().endswith(".gguf"):
        raise ModelError(f"{name} is a GGUF file: make a draft model with `edge-agent export {name} OUT`.")
    if folder.is_absolute() or name.startswith((".", "~")) or name.count("/") > 1:
        raise ModelError(f"There is no model folder at {name}: give a folder, a hub name, or '{DEMO}'.")
    return None


def fetch(name: str, patterns: Sequence[str], *, offline: bool = False) -> Path:
    """Download the files of hub repository `name` that match `patterns`, or find them in the cache."""
    set_verbosity_error()  # the hub logs it twice, and our error has it too
    try:
        return Path(snapshot_download(name, allow_patterns=list(patterns), local_files_only=offline))
    except LocalEntryNotFoundError as error:
        raise ModelError(
            f"'{name}' is not a folder here, not in the hub's cache, and the hub cannot be reached: check "
            "the name and the connection, or give a local folder."
        ) from error
    except FAILURES as error:
        raise cannot_fetch(name, error) from error


def _files_on_hub(name: str) -> list[str] | None:
    """The files of the repository, asked for once, without the hub's retries; None without a connection."""
    try:
        return [file.rfilename for file in HfApi().model_info(name, timeout=TIMEOUT).siblings or []]
    except (HFValidationError, RepositoryNotFoundError) as error:
        raise cannot_fetch(name, error) from error
    except FAILURES:
        return None  # `fetch` looks into the cache, and explains what is wrong


def graphs_to_fetch(name: str, model_file: str | None, files: Sequence[str]) -> list[str]:
    """The one graph to download."""
    if model_file is not None:
        return [model_file]
    chosen = choose(files)
    if len(chosen) > 1:
        raise ModelError(f"'{name}' on the hub {several(chosen)}.")
    if not chosen:
        problem = HALVES if has_halves(files) else NO_GRAPH
        raise ModelError(f"'{name}' on the hub {problem}: make one with `edge-agent export {name} OUT`.")
    return chosen


def cannot_fetch(name: str, error: Exception) -> ModelError:
    """The error for a name that is neither a folder nor on the hub."""
    reason = " ".join(str(error).split()).removesuffix(".")
    return ModelError(f"'{name}' is not a folder here and cannot be fetched from the hub ({reason}).")
