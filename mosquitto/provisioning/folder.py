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
        self.path = Path(os.path.expanduser(path)).absolute()
        self.configuration = self.path / "mosquitto.conf"
        self.authority = self.path / "ca.crt"
        self.certificate = self.path / "server.crt"
        self.key = self.path / "server.key"  # the broker's
        self.state = self.path / "state" / "dynamic-security.json"  # the broker's, which also writes it
        self.authority_key = self.path / "admin" / "ca.key"
        self.password = self.path / "admin" / "password"
        self.copy = self.path / "admin" / "accounts.json"  # the last good copy of `state`

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


def write_secret(path: Path, text: str, *, replace: bool = False, for_broker: bool = False) -> None:
    """Write a file that only its owner can read. One that exists is an error, or replaced in one step."""
    if replace:
        stage(path, text, for_broker=for_broker).rename(path)
    else:
        _write_new(path, text, for_broker=for_broker)


def stage(path: Path, text: str, *, for_broker: bool = False) -> Path:
    """Write the complete new file beside `path`, to be renamed to it."""
    new = path.with_name(path.name + ".new")
    new.unlink(missing_ok=True)
    _write_new(new, text, for_broker=for_broker)
    return new


def _write_new(path: Path, text: str, *, for_broker: bool) -> None:
    """Write a file that must not exist, through to the disk; nothing stays when that fails."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        left = text.encode()
        while left:
            left = left[os.write(descriptor, left) :]
        os.fsync(descriptor)
        if for_broker:
            give_to_broker(path)
    except OSError as error:
        path.unlink()
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        os.close(descriptor)


def give_to_broker(path: Path) -> None:
    """Make the broker's user the owner, if we are root and that user exists."""
    if os.geteuid() != 0:
        return
    try:
        user = pwd.getpwnam(BROKER_USER)
    except KeyError:
        return
    os.chown(path, user.pw_uid, user.pw_gid)
