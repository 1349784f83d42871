"""Prompts that a draft model has read, kept in a folder between runs of the agent.

Law: the cache only saves time. A file that is damaged, foreign or cannot be written is left aside with one
line in the log, and the prompt is read as without a cache. The folder never holds more than `max_bytes`;
the files used least recently go first. A prompt is written only when memory is about to lose it, and only
what no other file has already.
"""

import hashlib
import logging
import os
import platform
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from edge_agent.draft_model.canonical_runs import RUN
from edge_agent.draft_model.graph import CacheTensor
from edge_agent.draft_model.onnx_session import Array, runtime
from edge_agent.draft_model.prompt_file import Layout, PromptFileError, read_prompt, read_tokens, write_prompt
from edge_agent.errors import ConfigError
from edge_agent.slots.choosing import common_length

LEAST_GAIN = 64  # tokens that a file must save from being read
SUFFIX = ".prompt"
_PARTIAL = ".partial"
_ABANDONED = 3600.0  # seconds after which a partial file is of a process that has ended
_SAMPLE = 1 << 20  # bytes at both ends of a graph's files that its fingerprint covers

_log = logging.getLogger(__name__)


class PromptStore:
    """The files of one graph in one folder, which several agents may share."""

    def __init__(self, folder: Path, layout: Layout, max_bytes: int) -> None:
        """Create the folder, for this user alone; raises ConfigError when that cannot be done."""
        self._folder, self._layout, self._max_bytes = folder, layout, max_bytes
        self._ignored: set[Path] = set()
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            os.scandir(folder).close()
        except OSError as error:
            raise ConfigError(f"cannot use `prompt_cache` {folder}: {error.strerror}") from error

    def find(self, tokens: Sequence[int], num_held: int) -> tuple[int, dict[str, Array]] | None:
        """The longest beginning of `tokens` that a file has, in whole runs, and its keys and values.

        None if that is hardly longer than the `num_held` tokens that are in memory.
        """
        wanted = list(tokens)
        found = [(common_length(wanted, has) // RUN * RUN, path) for path, has in self._files()]
        for length, path in sorted(found, reverse=True):
            if length - num_held < LEAST_GAIN:
                return None
            try:
                arrays = read_prompt(path, self._layout, length)
            except PromptFileError as error:
                self._ignore(path, error)
                continue
            with suppress(OSError):
                os.utime(path)
            _log.info("%d tokens of the prompt are in the prompt cache", length)
            return length, arrays
        return None

    def save(self, tokens: Sequence[int], read: Callable[[], dict[str, Array]]) -> None:
        """Keep `tokens`, whose keys and values `read` returns, unless other files have nearly all of them."""
        wanted, size = list(tokens), self._layout.size(len(tokens))
        files = list(self._files())
        most = max((common_length(wanted, has) for _, has in files), default=0)
        if len(wanted) - most < LEAST_GAIN or size > self._max_bytes:
            return
        try:
            for path, has in files:
                if common_length(wanted, has) == len(has):  # the new file has it too
                    path.unlink(missing_ok=True)
            self._make_room(size)
            self._write(wanted, read())
        except OSError as error:
            _log.warning("cannot write to the prompt cache %s: %s", self._folder, error.strerror)

    def _files(self) -> Iterator[tuple[Path, list[int]]]:
        """The files of this graph, and their tokens."""
        for path in sorted(self._folder.glob(f"{self._layout.fingerprint}-*{SUFFIX}")):
            if path in self._ignored:
                continue
            try:
                yield path, read_tokens(path, self._layout)
            except PromptFileError as error:
                self._ignore(path, error)

    def _ignore(self, path: Path, error: PromptFileError) -> None:
        if path.exists():  # else another agent has replaced it
            self._ignored.add(path)
            _log.warning("ignored %s in the prompt cache: %s", path, error)

    def _write(self, tokens: list[int], arrays: dict[str, Array]) -> None:
        name = hashlib.blake2b(np.asarray(tokens, "<u4").tobytes(), digest_size=16).hexdigest()
        descriptor, partial = tempfile.mkstemp(_PARTIAL, f"{self._layout.fingerprint}-", self._folder)
        try:
            with os.fdopen(descriptor, "wb") as stream:
                write_prompt(stream, self._layout, tokens, arrays)
            path = self._folder / f"{self._layout.fingerprint}-{name}{SUFFIX}"
            os.replace(partial, path)
            self._ignored.discard(path)
        except BaseException:
            with suppress(OSError):
                os.unlink(partial)
            raise

    def _make_room(self, size: int) -> None:
        """Delete the files used least recently, of any graph, until `size` bytes fit."""
        used: list[tuple[float, int, Path]] = []
        for path in (*self._folder.glob(f"*{SUFFIX}"), *self._folder.glob(f"*{_PARTIAL}")):
            with suppress(FileNotFoundError):
                found = path.lstat()
                is_abandoned = path.suffix == _PARTIAL and time.time() - found.st_mtime > _ABANDONED
                used.append((0.0 if is_abandoned else found.st_mtime, found.st_size, path))
        room = self._max_bytes - size - sum(num_bytes for _, num_bytes, _ in used)
        for when, num_bytes, path in sorted(used):
            if room >= 0 and when > 0.0:
                return
            path.unlink(missing_ok=True)
            room += num_bytes


def open_store(
    folder: str,
    max_bytes: int,
    *,
    graph_files: Sequence[Path],
    tensors: tuple[CacheTensor, ...],
    providers: Sequence[str],
) -> PromptStore:
    """The prompts of one graph in `folder`, as it runs here; raises ConfigError."""
    fingerprint = graph_fingerprint(graph_files, providers)
    return PromptStore(Path(folder).expanduser(), Layout(fingerprint, tensors), max_bytes)


def graph_fingerprint(files: Sequence[Path], providers: Sequence[str]) -> str:
    """Names what a graph computes: its files, and what runs them. Another processor may round differently.

    Of large files, it covers size, time of change and both ends.
    """
    version, _ = runtime()
    digest = hashlib.blake2b(digest_size=8)
    digest.update("\n".join([version, *providers, platform.machine(), _processor()]).encode())
    for path in files:
        found = path.stat()
        digest.update(f"\n{path.name} {found.st_size} {found.st_mtime_ns}\n".encode())
        with path.open("rb") as stream:
            digest.update(stream.read(_SAMPLE))
            stream.seek(max(0, found.st_size - _SAMPLE))
            digest.update(stream.read(_SAMPLE))
    return digest.hexdigest()


def _processor() -> str:
    """The features of the processor, by which kernels are chosen; empty if they cannot be seen."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    return next((line for line in lines if line.startswith(("flags", "Features"))), "")
