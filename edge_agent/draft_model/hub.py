"""A model on the Hugging Face hub: its files are listed, fetched, or found in the hub's cache.

Law: only one graph of a repository is fetched. This module is imported only for a hub name, because the hub's
library costs a device half a second and memory.
"""

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
from edge_agent.draft_model.files import HALVES, NO_GRAPH, several
from edge_agent.errors import ModelError

TIMEOUT = 5.0  # seconds for the hub's first answer
TEXT_FILES = ("*.json", "*.jinja")

# What a download can raise. The hub's errors extend those of its HTTP library: requests or httpx, depending
# on the version.
FAILURES = (OSError, HFValidationError, *cast("tuple[type[Exception], ...]", HfHubHTTPError.__bases__))


def resolve_on_hub(name: str, *, model_file: str | None, offline: bool) -> Path:
    """The folder in the hub's cache with the files of repository `name`, downloaded unless `offline`."""
    offline = offline or HF_HUB_OFFLINE
    files = None if offline else _files_on_hub(name)
    if files is None:  # `read_info` looks for the graph: the hub's library wants all that it has heard of
        return fetch(name, TEXT_FILES, offline=True)
    graphs = graphs_to_fetch(name, model_file, files)
    return fetch(name, [*TEXT_FILES, *(f"{graph}*" for graph in graphs)])


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
