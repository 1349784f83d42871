"""The broker's folder: where each file is, and who may read it.

Law: a secret is never readable by others, not even for a moment, and an existing file is replaced only by a
complete new one. The authority's key and the administrator's password are kept apart from what the broker
reads, so that breaking into the broker does not reveal them.
"""

import os
import pwd
from collections.abc import Generator
from contextlib import contextmanager
from fcntl import LOCK_EX, LOCK_NB, flock
from pathlib import Path

from mosquitto.provisioning import ProvisionError

DEFAULT_FOLDER = Path("/var/lib/hybrid-lm")
BROKER_USER = "mosquitto"


class Folder:
    """The paths below one folder; each is a property."""

    def __init__(self, path: Path) -> None:
        self.path = path.expanduser().absolute()
        self.configuration = self.path / "mosquitto.conf"
        self.authority = self.path / "ca.crt"
        self.certificate = self.path / "server.crt"
        self.key = self.path / "server.key"  # the broker's
        self.state = self.path / "state" / "dynamic-security.json"  # the broker's, which also writes it
        self.authority_key = self.path / "admin" / "ca.key"
        self.password = self.path / "admin" / "password"

    def create(self) -> None:
        """Make the folders; those that exist stay as they are."""
        if not self.path.exists():
            self.path.mkdir(parents=True)
            self.path.chmod(0o755)  # regardless of the umask, so that the broker's user can enter
        for private in (self.state.parent, self.password.parent):
            private.mkdir(mode=0o700, exist_ok=True)
        if self.password.parent.stat().st_uid != os.geteuid():
            raise ProvisionError(f"{self.password.parent} belongs to another user: run this as its owner")
        give_to_broker(self.state.parent)

    def read_password(self) -> str:
        """The administrator's password."""
        try:
            return self.password.read_text(encoding="utf-8").strip()
        except FileNotFoundError as error:
            raise ProvisionError(f"{self.password} does not exist: run `provision init` first") from error

    @contextmanager
    def alone(self) -> Generator[None]:
        """Lock the folder for one administrator: a second connection would disconnect the first."""
        self.read_password()
        with self.password.parent.joinpath("lock").open("a") as lock:
            try:
                flock(lock, LOCK_EX | LOCK_NB)
            except BlockingIOError as error:
                raise ProvisionError(
                    f"another provision command is using {self.path}: wait until it ends"
                ) from error
            yield


def write_secret(path: Path, text: str, *, replace: bool = False) -> None:
    """Write a file that only its owner can read. One that exists is an error, or replaced in one step."""
    target = path.with_name(path.name + ".new") if replace else path
    if replace:
        target.unlink(missing_ok=True)
    with open(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    if replace:
        target.rename(path)


def give_to_broker(path: Path) -> None:
    """Make the broker's user the owner, if we are root and that user exists."""
    if os.geteuid() != 0:
        return
    try:
        user = pwd.getpwnam(BROKER_USER)
    except KeyError:
        return
    os.chown(path, user.pw_uid, user.pw_gid)
