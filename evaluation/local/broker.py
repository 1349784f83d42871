"""A private mosquitto on a free port of this machine, for tests, the demo and benchmarks.

Law: it runs the development configuration, so what is measured is what a developer gets; only the port
differs, and the lines that the caller adds. It stops with the block that started it.
"""

import os
import re
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from evaluation.local.ending import close_on_sigterm, stop_process

DEVELOPMENT_CONF = Path(__file__).with_name("development.conf")  # a copy, so that the wheel has it
START_TIMEOUT = 10.0
STOP_TIMEOUT = 5.0

_LISTENER = re.compile(r"^listener \d+", re.MULTILINE)


class BrokerError(Exception):
    """The local broker cannot be started; the message is one line that says why."""


class LocalBroker:
    """`with LocalBroker() as broker: ... broker.url ...`

    `settings` are more lines for the configuration `conf`. The result and the log lie in `folder` (default: a
    temporary folder). After `kill` or `stop`, `start` uses the same port again.
    """

    program = "mosquitto"

    def __init__(
        self,
        folder: Path | None = None,
        *,
        port: int = 0,
        settings: Sequence[str] = (),
        conf: Path = DEVELOPMENT_CONF,
    ) -> None:
        self._temporary = None if folder else tempfile.TemporaryDirectory(prefix="broker-")
        self.folder = folder or Path(self._temporary.name if self._temporary else "")
        self.port = port or free_port()
        self._settings = tuple(settings)
        self._conf = conf
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The URL of the broker, as LinkSettings takes it."""
        return f"mqtt://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """The process id; only while the broker runs."""
        assert self._process is not None
        return self._process.pid

    @property
    def log_file(self) -> Path:
        """The broker's log, over all its starts."""
        return self.folder / "mosquitto.log"

    def start(self) -> None:
        """Start, and wait until the broker accepts connections; BrokerError when it does not."""
        close_on_sigterm()
        conf_file = self.folder / "mosquitto.conf"
        conf_file.write_text(self._configuration())
        with self.log_file.open("ab") as log:
            command = [mosquitto_path(), "-c", str(conf_file)]
            self._process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        deadline = time.monotonic() + START_TIMEOUT
        while not accepts(self.port):
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                error = _first_error(self.log_file.read_text(errors="replace"))
                raise BrokerError(f"mosquitto does not start ({error}): see {self.log_file}")
            time.sleep(0.01)

    def stop(self) -> None:
        """Stop with SIGTERM; does nothing when the broker is not running."""
        if self._process is not None:
            stop_process(self._process, STOP_TIMEOUT)
            self._process = None

    def kill(self) -> None:
        """Stop at once, as a power cut would (SIGKILL)."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def restart(self) -> None:
        """Stop, and start again on the same port."""
        self.stop()
        self.start()

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self._clean_up()
            raise
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self._clean_up()

    def _clean_up(self) -> None:
        self.stop()
        if self._temporary is not None:
            self._temporary.cleanup()

    def _configuration(self) -> str:
        text, num_replaced = _LISTENER.subn(f"listener {self.port}", self._conf.read_text())
        if num_replaced != 1:
            raise BrokerError(f"{self._conf} has no single line 'listener PORT' to set the port in")
        # started by root, mosquitto would become a user that cannot read the caller's files
        own_user = ["user root"] if os.geteuid() == 0 else []
        return "\n".join([text, *own_user, *self._settings, ""])


def _first_error(log: str) -> str:
    errors = [line.partition("Error: ")[2] for line in log.splitlines() if "Error: " in line]
    return errors[0] if errors else "no error in its log"


def mosquitto_path() -> str:
    """The mosquitto binary, also from folders for administrators; BrokerError when there is none."""
    path = _find_mosquitto()
    if path is None:
        raise BrokerError("mosquitto is not installed: install it (Debian: apt install mosquitto)")
    return path


def has_mosquitto() -> bool:
    """Whether there is a mosquitto binary."""
    return _find_mosquitto() is not None


def _find_mosquitto() -> str | None:
    folders = [os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin", "/opt/homebrew/sbin"]
    return shutil.which("mosquitto", path=os.pathsep.join(folders))


def accepts(port: int) -> bool:
    """Whether a process accepts connections on a port of this machine."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1.0):
            return True
    except OSError:
        return False


def free_port() -> int:
    """A TCP port that no process listens on now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])
