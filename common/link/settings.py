"""The broker's address and our credentials; a mistake is a one-line error."""

import ssl
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

# Implementation specific error, server unavailable and busy, packet identifier in use, message rate, quota,
# connection rate; of a DISCONNECT before the SUBACK: shutting down, keepalive, administrative action, maximum
# connect time. 0x80 (unspecified) is not one of them: of a CONNECT it can mean anything.
TEMPORARY = frozenset({0x83, 0x88, 0x89, 0x8B, 0x8D, 0x91, 0x96, 0x97, 0x98, 0x9F, 0xA0})
_DEFAULT_PORTS = {"mqtt": 1883, "mqtts": 8883}


class LinkError(Exception):
    """The link cannot be set up: a one-line message with what is wrong and what to do."""


class RefusedError(LinkError):
    """The broker does not take the connection or a subscription; `reason` is MQTT's code."""

    def __init__(self, message: str, reason: int | None) -> None:
        super().__init__(message)
        self.reason = reason

    @property
    def is_temporary(self) -> bool:
        """Whether the same attempt can succeed later."""
        return self.reason in TEMPORARY


@dataclass(frozen=True, slots=True)
class LinkSettings:
    """One broker account. `url` is mqtt://host[:port] or mqtts://host[:port]; files are PEM paths.

    Without `client_id` the broker assigns one; without `ca_file` mqtts trusts the system's authorities. The
    password file and the PEM files are read again for each connection.
    `keepalive` and `connect_timeout` are in seconds; a dead line is
    detected about six seconds after something was sent, an idle one after a keepalive and four seconds.
    """

    url: str = "mqtt://localhost:1883"
    client_id: str = ""
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    password_file: str | None = None  # wins over `password`; its first line
    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    keepalive: int = 20
    connect_timeout: float = 5.0

    def __post_init__(self) -> None:
        _ = self.host, self.port
        if not self.tls and (self.ca_file or self.cert_file or self.key_file):
            raise LinkError(f"certificates are given but {self.url!r} is not encrypted: write mqtts://")
        if self.key_file and not self.cert_file:
            raise LinkError(f"the key file {self.key_file} is given without its certificate: set `cert_file`")
        if (self.password is not None or self.password_file is not None) and self.username is None:
            raise LinkError("a password is given without a user name: set `username`")

    @property
    def tls(self) -> bool:
        """True for mqtts."""
        return urlsplit(self.url).scheme == "mqtts"

    @property
    def host(self) -> str:
        """The broker's name or address."""
        parts = urlsplit(self.url)
        if parts.scheme not in _DEFAULT_PORTS or not parts.hostname:
            raise LinkError(
                f"broker URL {self.url!r} is not of the form mqtt://host:port or mqtts://host:port"
            )
        if parts.username is not None or parts.password is not None:
            raise LinkError(
                "the broker URL contains a user name or password: set `username` and `password_file` instead"
            )
        if parts.path.strip("/") or parts.query or parts.fragment:
            raise LinkError(f"broker URL {self.url!r} has something after the port: remove it")
        return parts.hostname

    @property
    def port(self) -> int:
        """The broker's TCP port."""
        parts = urlsplit(self.url)
        try:
            port = parts.port
        except ValueError as error:
            raise LinkError(f"broker URL {self.url!r} has no valid port: use 1 to 65535") from error
        if port == 0:
            raise LinkError(f"broker URL {self.url!r} has no valid port: use 1 to 65535")
        return port if port is not None else _DEFAULT_PORTS[parts.scheme]

    @property
    def address(self) -> str:
        """host:port, for people."""
        return f"{self.host}:{self.port}"

    def current_password(self) -> str | None:
        """The password, from its file if there is one; LinkError if that cannot be read."""
        if self.password_file is None:
            return self.password
        try:
            return Path(self.password_file).read_text(encoding="utf-8").split("\n", 1)[0]
        except OSError as error:
            raise LinkError(f"cannot read the password file {self.password_file}: {_short(error)}") from error
        except ValueError as error:  # not UTF-8, or not a possible path
            raise LinkError(f"the password file {self.password_file} is not a text file: {error}") from error

    def tls_context(self) -> ssl.SSLContext | None:
        """The verifying TLS context for mqtts, else None; LinkError if a file cannot be used."""
        if not self.tls:
            return None
        try:
            context = ssl.create_default_context(cafile=self.ca_file)
        except OSError as error:
            raise LinkError(f"TLS: the CA file {self.ca_file} cannot be used ({_short(error)})") from error
        if self.cert_file:
            try:
                context.load_cert_chain(self.cert_file, self.key_file)
            except OSError as error:
                raise LinkError(
                    f"TLS: the certificate {self.cert_file} and its key cannot be used ({_short(error)})"
                ) from error
        return context


def _short(error: OSError) -> str:
    return error.strerror or type(error).__name__
