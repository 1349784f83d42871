"""Two releases side by side: the working tree, and an older one taken out of the repository.

Law: both run as a user runs them, each with its own code and nothing of the other's. They share the installed
packages and the demo's models.
"""

import subprocess
import sys
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

ROOT = Path(__file__).parents[2]
LAST_RELEASE = "41d008b"  # the last commit of 0.1.0, which has no tag
PACKAGES = ("common", "cloud_worker", "edge_agent")


class ReleaseError(Exception):
    """The older release is not there; the message is one line that says why."""


@dataclass(frozen=True, slots=True)
class Release:
    """How to run the programs of one release; `lines` make `generate` read a prompt from each line."""

    name: str
    environment: Mapping[str, str] = field(default_factory=dict)
    lines: tuple[str, ...] = ("-",)

    def command(self, module: str, *arguments: str) -> list[str]:
        """The command of a program, for `environment`."""
        return [sys.executable, "-m", module, *arguments]


def present_release() -> Release:
    """The working tree."""
    return Release("present", lines=("-", "--lines"))


def older_release(revision: str, folder: Path) -> Release:
    """The programs of a commit, unpacked into a folder; ReleaseError where the repository lacks it."""
    done = subprocess.run(["git", "archive", revision, *PACKAGES], cwd=ROOT, capture_output=True, check=False)
    if done.returncode:
        why = done.stderr.decode().strip().splitlines() or ["git failed"]
        raise ReleaseError(f"cannot take {revision} out of the repository ({why[-1]})")
    with tarfile.open(fileobj=BytesIO(done.stdout)) as archive:
        archive.extractall(folder, filter="data")
    options = (folder / "edge_agent" / "cli" / "command_line.py", folder / "edge_agent" / "command_line.py")
    has_flag = any("--lines" in path.read_text() for path in options if path.exists())
    # a safe path leaves out the current folder, where the working tree may be
    environment = {"PYTHONSAFEPATH": "1", "PYTHONPATH": str(folder)}
    return Release(revision, environment, ("-", "--lines") if has_flag else ("-",))
