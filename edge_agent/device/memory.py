"""Give memory back to the kernel that loading a model has used, and no run needs. Only on Linux.

Law: no byte that anything can read changes. Where the system does not offer it, nothing happens.
"""

import ctypes
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

_SMAPS = Path("/proc/self/smaps")
_MAPPING = re.compile(r"([0-9a-f]+)-([0-9a-f]+) \S+ \S+ \S+ \d+ *(.*)")  # without a path: no file
_DONTNEED = 4  # madvise: the same on every architecture


def release_free_memory() -> None:
    """Return what the C library has freed and kept."""
    trim = _libc_function("malloc_trim")
    if trim is not None:
        trim(ctypes.c_size_t(0))


def release_read_pages(path: Path) -> None:
    """Return the pages of the mapped file at `path`: what is read again comes from the kernel's page cache.

    A mapping that this process has written to stays as it is.
    """
    advise = _libc_function("madvise")
    if advise is None:
        return
    with suppress(OSError):
        for start, end in list(_clean_mappings(_SMAPS.read_text(), str(path.resolve()))):
            advise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), _DONTNEED)


def _clean_mappings(smaps: str, path: str) -> Iterator[tuple[int, int]]:
    """Where `path` is mapped and the process has no pages of its own in its place, not even swapped out."""
    mapping: tuple[int, int] | None = None
    for line in smaps.splitlines():
        if match := _MAPPING.fullmatch(line):
            mapping = (int(match[1], 16), int(match[2], 16)) if match[3] == path else None
        elif mapping is not None and line.startswith(("Anonymous:", "Swap:")):
            if line.split()[1] != "0":
                mapping = None
            elif line.startswith("Swap:"):  # comes after Anonymous
                yield mapping


def _libc_function(name: str) -> Callable[..., int] | None:
    """A function of the C library, if this is Linux and it has one."""
    if not sys.platform.startswith("linux"):
        return None
    with suppress(OSError, AttributeError):
        return getattr(ctypes.CDLL(None, use_errno=True), name)
    return None
