"""The settings of the connection to the broker, the same for both processes."""

import logging
import os
import stat
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from common.process.settings import SettingsError, option
from common.protocol.topics import DEFAULT_ROOT, Topics, check_pool, is_name

if TYPE_CHECKING:
    from common.link import LinkSettings

_log = logging.getLogger(__name__)
_connection = partial(option, group="connection")


@dataclass(frozen=True, kw_only=True)
class BrokerConfig:
    """Where the broker is, which account to use, and which topics."""

    broker: str = _connection(
        "mqtt://localhost:1883", "the MQTT broker: mqtt://host:port or mqtts://host:port"
    )
    pool: str = _connection("demo", "the pool of workers that serve one target model")
    root: str = _connection(DEFAULT_ROOT, "the first level or levels of every topic")
    username: str | None = _connection(None, "user name for the broker")
    password: str | None = _connection(None, "password for the broker", secret=True)
    password_file: str | None = _connection(None, "a file whose first line is the password for the broker")
    ca_file: str | None = _connection(None, "certificate authority (PEM) of the broker's certificate")
    cert_file: str | None = _connection(None, "client certificate (PEM)")
    key_file: str | None = _connection(None, "key of the client certificate (PEM)")

    def __post_init__(self) -> None:
        """Raise ValueError for a pool or root that cannot be part of a topic."""
        check_pool(self.pool)
        Topics(self.root)

    @property
    def account_name(self) -> str:
        """The user name, if it can be part of a topic: in production an account is one device or worker."""
        return self.username if self.username and is_name(self.username) else ""

    def link_settings(self, client_id: str) -> "LinkSettings":
        """The link's settings; raises LinkError or SettingsError when they cannot be used."""
        from common.link import LinkError, LinkSettings  # loads the MQTT client: a config alone does without

        try:
            settings = LinkSettings(
                url=self.broker,
                client_id=client_id,
                username=self.username,
                password=self.password,
                password_file=_expanded(self.password_file),
                ca_file=_expanded(self.ca_file),
                cert_file=_expanded(self.cert_file),
                key_file=_expanded(self.key_file),
            )
            settings.host.encode("idna")  # as the resolver will, but with a readable error
        except ValueError as error:
            raise SettingsError(f"`broker` {self.broker!r} has no valid host name: check it") from error
        try:
            password = settings.current_password()
        except LinkError as error:
            raise SettingsError(str(error)) from error
        for secret in (settings.password_file, settings.key_file):
            warn_if_open(secret)
        return replace(settings, password=password)


def _expanded(path: str | None) -> str | None:
    return None if path is None else os.path.expanduser(path)


def warn_if_open(secret: str | None) -> None:
    """Warn when every account on this machine can read a secret file."""
    if secret is None:
        return
    path = Path(secret)
    try:
        is_open = bool(path.stat().st_mode & stat.S_IROTH)
    except OSError:  # opening it will explain what is wrong
        return
    if is_open:
        _log.warning("everyone on this machine can read %s, which is a secret: chmod 600 %s", path, path)


def read_secret(path: str) -> str:
    """The first line of a secret file, without spaces around it; warns when every account can read the file.

    Raises OSError, or UnicodeDecodeError for a file that is not text.
    """
    warn_if_open(path)
    return Path(path).read_text(encoding="utf-8").split("\n", 1)[0].strip()
