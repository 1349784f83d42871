"""Download a draft model from the Hugging Face hub, and verify every byte of it.

Law: no file is accepted that is not the hub's: by SHA-256 where the hub has it, else by git's hash. A file
that is not is deleted. What an interrupted attempt has fetched is kept, and the next one fetches only the
rest; huggingface_hub itself forgets it when the process ends, so the files are put into its cache here.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from huggingface_hub import HfApi, hf_hub_url, snapshot_download
from huggingface_hub.constants import HF_HUB_CACHE
from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError, RevisionNotFoundError
from huggingface_hub.file_download import http_get, repo_folder_name
from huggingface_hub.utils import build_hf_headers

from edge_agent.draft_model.files import read_info
from edge_agent.draft_model.hub import FAILURES, TEXT_FILES, TIMEOUT, cannot_fetch, graphs_to_fetch
from edge_agent.errors import ModelError

_BLOCK = 1024 * 1024


@dataclass(frozen=True, slots=True)
class HubFile:
    """A file as the hub states it: its `sha256` where it is large, else git's hash of it (`blob`)."""

    size: int | None
    sha256: str | None
    blob: str | None

    @property
    def key(self) -> str | None:
        """Its name in the hub's cache."""
        return self.sha256 or self.blob

    def is_at(self, path: Path) -> bool:
        """Whether the file at `path` is this one."""
        if not path.is_file() or (self.size is not None and path.stat().st_size != self.size):
            return False
        if self.sha256 is not None:
            return _hash(path, "sha256") == self.sha256
        return self.blob is None or _hash(path, "sha1", f"blob {path.stat().st_size}\0".encode()) == self.blob


def pull(
    name: str, *, to: Path | None = None, model_file: str | None = None, revision: str | None = None
) -> Path:
    """Download hub repository `name` into the hub's cache, or into the folder `to`; returns the folder.

    `model_file` is the graph, by default the one that an agent would choose. Raises ModelError.
    """
    commit, every = _files_on_hub(name, revision)
    wanted = {file: every[file] for file in _choose(name, model_file, list(every))}
    blobs = Path(HF_HUB_CACHE, repo_folder_name(repo_id=name, repo_type="model"), "blobs")
    try:
        for file, one in wanted.items():
            if to is not None:
                _fetch(name, file, one, commit, to / file)
            elif one.key is not None:
                _fetch(name, file, one, commit, blobs / one.key)
        # the cache has the files already: this links them to their names
        folder = to or Path(snapshot_download(name, revision=revision, allow_patterns=list(wanted)))
    except FAILURES as error:
        reason = " ".join(str(error).split()).removesuffix(".")
        raise ModelError(
            f"The download of '{name}' was interrupted ({reason}): run the command again, and it goes on."
        ) from error
    read_info(folder, model_file)
    return folder


def _files_on_hub(name: str, revision: str | None) -> tuple[str | None, Mapping[str, HubFile]]:
    """The commit, and its files by name."""
    try:
        info = HfApi().model_info(name, revision=revision, timeout=TIMEOUT, files_metadata=True)
    except (HFValidationError, RepositoryNotFoundError, RevisionNotFoundError) as error:
        raise cannot_fetch(name, error) from error
    except FAILURES as error:
        reason = " ".join(str(error).split()).removesuffix(".")
        raise ModelError(f"The hub cannot be reached ({reason}): check the connection.") from error
    return info.sha, {
        one.rfilename: HubFile(one.size, None if one.lfs is None else one.lfs.sha256, one.blob_id)
        for one in info.siblings or []
    }


def _choose(name: str, model_file: str | None, files: list[str]) -> list[str]:
    """One graph with its weights, and the small files; never a path that leaves the folder."""
    graphs = graphs_to_fetch(name, model_file, files)
    if missing := [graph for graph in graphs if graph not in files]:
        raise ModelError(f"'{name}' on the hub has no file {missing[0]}: check `model_file`.")
    patterns = [*TEXT_FILES, *(f"{graph}*" for graph in graphs)]
    found = [file for file in files if any(fnmatch(file, pattern) for pattern in patterns)]
    if unsafe := [file for file in found if Path(file).is_absolute() or ".." in Path(file).parts]:
        raise ModelError(f"'{name}' on the hub has a file called {unsafe[0]!r}: do not use it.")
    return found


def _fetch(name: str, file: str, wanted: HubFile, commit: str | None, target: Path) -> None:
    """Get `file` to `target`, unless it is there; begin where an earlier attempt has ended."""
    if wanted.is_at(target):
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f"{target.name}.incomplete")
    with partial.open("ab") as stream:
        if wanted.size is not None and stream.tell() > wanted.size:
            stream.truncate(0)
        http_get(
            hf_hub_url(name, file, revision=commit),
            stream,
            resume_size=stream.tell(),
            headers=build_hf_headers(),
            expected_size=wanted.size,
            displayed_filename=file,
        )
    if not wanted.is_at(partial):
        partial.unlink()
        raise ModelError(
            f"{file} of '{name}' does not have the hub's checksum and was deleted: run the command again."
        )
    partial.replace(target)


def _hash(path: Path, kind: str, before: bytes = b"") -> str:
    digest = hashlib.new(kind, before, usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()
