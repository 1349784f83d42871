"""From a model's name ("demo", a local folder, or a Hugging Face hub name) to a folder on this machine.

Law: an existing folder is never looked up on the network.
"""

import os
from pathlib import Path

from edge_agent.draft_model.files import DEMO, DEMO_FOLDER
from edge_agent.errors import ModelError


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
    from edge_agent.draft_model.hub import resolve_on_hub  # costs a device with a local folder nothing

    return resolve_on_hub(name, model_file=model_file, offline=offline)


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
