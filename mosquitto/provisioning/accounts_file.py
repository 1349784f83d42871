"""The accounts on disk: the plugin's file, and the last good copy of it in the administrator's folder.

mosquitto checks neither that it could write its file nor that the file is whole, and a broker that starts
with a damaged one admits no one. Law: the copy is replaced only by a file that can be read whole and that
lets the administrator in; a change counts as made only when the file has it.
"""

import hashlib
import json
import os
import sys
import time
from base64 import b64decode
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias, cast

from mosquitto.provisioning import ProvisionError
from mosquitto.provisioning.folder import Folder, write_secret
from mosquitto.provisioning.state import ADMIN, Json

WRITE_TIMEOUT = 5.0  # seconds in which the broker has written its file; 2.0 does so before it answers


@dataclass(frozen=True, slots=True)
class Accounts:
    """The content of the plugin's file: clients and roles by name."""

    text: str
    clients: Mapping[str, Json]
    roles: Mapping[str, Json]

    @classmethod
    def parse(cls, text: str) -> "Accounts | None":
        """Read the file's text; None when it is cut short, damaged, or without an administrator."""
        try:
            state = cast("Json", json.loads(text))
            clients = {str(one["username"]): one for one in cast("list[Json]", state["clients"])}
            roles = {str(one["rolename"]): one for one in cast("list[Json]", state["roles"])}
        except (ValueError, TypeError, KeyError, RecursionError):
            return None
        return cls(text, clients, roles) if ADMIN in clients and ADMIN in roles else None

    def takes(self, name: str, password: str) -> bool:
        """Whether the account exists and this is its password, as far as its hash is of the known kind."""
        client = self.clients.get(name)
        if client is None:
            return False
        if not all(key in client for key in ("password", "salt", "iterations")):
            return True  # another release's kind of hash
        salt, rounds = b64decode(str(client["salt"])), int(cast("int", client["iterations"]))
        return hashlib.pbkdf2_hmac("sha512", password.encode(), salt, rounds) == b64decode(
            str(client["password"])
        )

    def has_role(self, name: str, role: str, num_rules: int) -> bool:
        """Whether the account has the role, and the role all its rules."""
        held = cast("list[Json]", self.clients.get(name, {}).get("roles", []))
        rules = cast("list[Json]", self.roles.get(role, {}).get("acls", []))
        return any(one.get("rolename") == role for one in held) and len(rules) == num_rules


IsDone: TypeAlias = Callable[[Accounts], bool]


class AccountsFile:
    """The plugin's file in a folder, and its copy. On another machine than the broker's there is no file."""

    def __init__(self, folder: Folder) -> None:
        self._file = folder.state
        self._copy = folder.copy

    @property
    def is_here(self) -> bool:
        """Whether the broker's file is on this machine."""
        return self._file.parent.is_dir()

    def keep(self) -> None:
        """Copy the file if it is good. Raises OSError when that fails: nothing has changed then."""
        found = _read(self._file)
        if found is not None and _read(self._copy) != found:
            write_secret(self._copy, found.text, replace=True)

    def confirm(self, is_done: IsDone) -> bool:
        """Wait until the file has a change, and keep a copy of it; False when it does not get there."""
        if not self.is_here:
            return True
        end = time.monotonic() + WRITE_TIMEOUT
        while True:
            found = _read(self._file)
            if found is not None and is_done(found):
                _write_through(self._file)
                self._keep_anew()
                return True
            if time.monotonic() > end:
                return False
            time.sleep(0.05)

    def _keep_anew(self) -> None:
        try:
            self.keep()
        except OSError as error:  # the change is made, and the next one makes the copy first
            print(f"provision: {self._copy} is older than the accounts ({error.strerror})", file=sys.stderr)

    def put_back(self) -> str:
        """Replace a damaged file by the copy; returns what is on disk now, for people."""
        if _read(self._file) is not None:
            return f"{self._file} still has what it had before"
        try:
            self.restore()
        except (OSError, ProvisionError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            return f"{self._file} is damaged and cannot be put back ({reason}): do not restart the broker"
        return f"{self._file} has the last good accounts again"

    def restore(self) -> Accounts:
        """Replace the file by the copy, and return it; ProvisionError when there is no good copy."""
        kept = _read(self._copy)
        if kept is None:
            raise ProvisionError(f"there is no good copy of the accounts at {self._copy}: restore a backup")
        found = _read(self._file)
        if found is not None and found != kept:
            write_secret(self._copy.with_name("accounts.replaced.json"), found.text, replace=True)
        if found is None:  # damaged: free its blocks, on a full disk the last ones
            for useless in (self._file, self._file.with_name(self._file.name + ".new")):
                useless.unlink(missing_ok=True)
        write_secret(self._file, kept.text, replace=True, for_broker=True)
        return kept

    @property
    def free_space(self) -> str:
        """What the disk of the file has left, for people."""
        disk = os.statvfs(self._file.parent)
        return f"{disk.f_bavail * disk.f_frsize // 1024} KiB free"


def _read(path: Path) -> Accounts | None:
    try:
        return Accounts.parse(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, UnicodeDecodeError):
        return None


def _write_through(path: Path) -> None:
    """Make the kernel write the file to the disk, which mosquitto does not ask for."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
