"""The finished pieces of a long job, one JSON line each, so that an interrupted run can resume.

Law: a line is complete or it does not count. It reaches the disk before the next piece begins, and a line
that a crash left incomplete is cut off. The file's name identifies the models and settings it belongs to.
"""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

FORMAT = 3  # of a line; a new format, or texts that changed, start new files


class Finished:
    """The finished pieces by key, as plain values."""

    def __init__(self, folder: Path, settings: str) -> None:
        """Read the pieces for `settings`, a text of everything that the pieces depend on."""
        digest = hashlib.sha256(f"{FORMAT}\0{settings}".encode()).hexdigest()[:16]
        self.path = folder / f"{digest}.jsonl"
        self._pieces: dict[str, Any] = {}
        folder.mkdir(parents=True, exist_ok=True)
        if self.path.exists():
            self._read()

    def get(self, key: str) -> Any | None:
        """Return the piece for `key`, or None if it is not finished."""
        return self._pieces.get(key)

    def add(self, key: str, found: Any) -> None:
        """Keep a finished piece, in memory and on the disk."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps([key, found]) + "\n")
            file.flush()
            os.fsync(file.fileno())
        self._pieces[key] = found

    def _read(self) -> None:
        content = self.path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        if len(whole) < len(content):
            os.truncate(self.path, len(whole))
        for line in whole.splitlines():
            key, found = json.loads(line)
            self._pieces[key] = found
