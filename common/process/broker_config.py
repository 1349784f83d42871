"""The settings about the broker, the same for both processes."""

import logging
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from common.process.settings import SettingsError, option
from common.protocol.topics import DEFAULT_ROOT, Topics, check_pool, is_name

if TYPE_CHECKING:
    from common.link import LinkSettings

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class BrokerConfig:
    """Where the broker is, how to prove who we are, and below which topics to talk."""

    broker: str = option("mqtt://localhost:1883", "the MQTT broker: mqtt://host:port or mqtts://host:port")
    pool: str = option("demo", "the pool of workers that serve one target model")
    root: str = option(DEFAULT_ROOT, "the first levels of every topic")
    username: str | None = option(None, "the broker's user name")
    password: str | None = option(None, "the broker's password", secret=True)
    password_file: str | None = option(None, "a file with the broker's password in its first line")
    ca_file: str | None = option(None, "certificate authority (PEM) that signed the broker's certificate")
    cert_file: str | None = option(None, "client certificate (PEM)")
    key_file: str | None = option(None, "key of the client certificate (PEM)")

    def __post_init__(self) -> None:
        """ValueError for a pool or root that cannot stand in a topic."""
        check_pool(self.pool)
        Topics(self.root)

    @property
    def account_name(self) -> str:
        """The user name where it may stand in a topic: in production an account is one device or worker."""
        return self.username if self.username and is_name(self.username) else ""

    def link_settings(self, client_id: str) -> "LinkSettings":
        """The link's settings; LinkError or SettingsError says which of them cannot be used."""
        from common.link import LinkSettings  # loads the MQTT client: a config alone does without

        password = self._password()
        try:
            settings = LinkSettings(
                url=self.broker,
                client_id=client_id,
                username=self.username,
                password=password,
                ca_file=self.ca_file,
                cert_file=self.cert_file,
                key_file=self.key_file,
            )
            settings.host.encode("idna")  # as the resolver will, which does not say it in a sentence
        except ValueError as error:
            raise SettingsError(f"broker URL {self.broker!r} names no possible host: check it") from error
        for secret in (self.password_file, self.key_file):
            _warn_if_open(secret)
        return settings

    def _password(self) -> str | None:
        if self.password_file is None:
            return self.password
        path = Path(self.password_file).expanduser()
        try:
            return path.read_text(encoding="utf-8").split("\n", 1)[0]
        except OSError as error:
            raise SettingsError(
                f"cannot read the password file {path}: {os.strerror(error.errno or 0)}"
            ) from error
        except ValueError as error:  # bytes that are no UTF-8, or a path that cannot be
            raise SettingsError(f"the password file {path} is not a text file: {error}") from error


def _warn_if_open(secret: str | None) -> None:
    """Say so when every account of this machine can read a file that is a secret."""
    if secret is None:
        return
    path = Path(secret).expanduser()
    try:
        is_open = bool(path.stat().st_mode & stat.S_IROTH)
    except OSError:  # whoever opens it says what is wrong
        return
    if is_open:
        _log.warning("everyone on this machine can read %s, which is a secret: chmod 600 %s", path, path)
