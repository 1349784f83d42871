"""The production broker as an operator gets it: made by mosquitto/provision, with TLS, on a free port."""

import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from common.link import LinkSettings
from evaluation.local.broker import LocalBroker
from mosquitto.provisioning.__main__ import main

PROVISION = Path(__file__).parents[2] / "mosquitto" / "provision"


class ProductionBroker:
    """A provisioned folder and the broker that runs from it; accounts are added with `provision`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "broker"
        self.ca_file = str(self.folder / "ca.crt")
        self._secrets = folder
        self.offline("certificates", "--host", "broker.example.org", "--host", "192.0.2.1")
        self.offline("init")
        self.broker = LocalBroker(folder, conf=self.folder / "mosquitto.conf")
        self.url = f"mqtts://127.0.0.1:{self.broker.port}"

    def offline(self, *command: str) -> str:
        """The real command, in a process of its own; what it printed."""
        done = subprocess.run(
            [str(PROVISION), *command, "--folder", str(self.folder)],
            env={"PYTHON": sys.executable, "PATH": "/usr/bin:/bin:/usr/sbin"},
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def provision(self, *command: str) -> int:
        """The same program in this process, which is quicker; its exit code."""
        return main([*command, "--folder", str(self.folder), "--broker", self.url])

    def add(self, kind: str, name: str, *more: str) -> None:
        """Make an account; its password is in `password_file(name)`."""
        assert self.provision("add", kind, name, *more, "--out", self.password_file(name)) == 0

    def password_file(self, name: str) -> str:
        """Where `add` wrote the password of an account."""
        if name == "admin":
            return str(self.folder / "admin" / "password")
        return str(self._secrets / f"{name}.password")

    def password(self, name: str) -> str:
        """The password of an account."""
        return Path(self.password_file(name)).read_text().strip()

    def settings(self, name: str, **changes: str | None) -> LinkSettings:
        """How an account connects."""
        known = LinkSettings(self.url, username=name, password=self.password(name), ca_file=self.ca_file)
        return replace(known, **changes)


@contextmanager
def production_broker(folder: Path) -> Generator[ProductionBroker]:
    """Provisioned and running, with the administrator's account only."""
    production = ProductionBroker(folder)
    with production.broker:
        yield production
