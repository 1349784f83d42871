"""What is done of a long job, one JSON line each, so that an interrupted run goes on where it was.

Law: a line is whole or it does not count. It reaches the disk before the next piece begins; what a crash
left half written is cut off. The file's name says which models and settings it belongs to.
"""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

FORMAT = 2  # of a line; another one begins new files


class Finished:
    """Finished pieces by key, as plain values."""

    def __init__(self, folder: Path, settings: str) -> None:
        """Read what there is for `settings`, a text that says all that the pieces depend on."""
        digest = hashlib.sha256(f"{FORMAT}\0{settings}".encode()).hexdigest()[:16]
        self.path = folder / f"{digest}.jsonl"
        self._pieces: dict[str, Any] = {}
        folder.mkdir(parents=True, exist_ok=True)
        if self.path.exists():
            self._read()

    def get(self, key: str) -> Any | None:
        """What was found for `key`; None when it is still to be done."""
        return self._pieces.get(key)

    def add(self, key: str, found: Any) -> None:
        """Keep what was found, here and on the disk."""
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
