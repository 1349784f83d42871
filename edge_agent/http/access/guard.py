"""Who may use the API: checks of the Host and Origin headers, and of the key. Pure.

Law: a site that a browser on some machine shows can neither read nor ask anything here, unless its origin is
allowed: its name in the Host header (DNS rebinding) and its origin in the Origin header are refused. A key is
compared in constant time.
"""

import hmac
from base64 import b64decode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from common.process.hosts import is_address, name_in
from edge_agent.http.api_errors import ApiError

ANY = "*"
OPEN_PATHS = ("/", "/health", "/favicon.ico")  # need no key
OPEN_FOLDER = "/page/"

# names that no public name server answers for, so no foreign site can point them here
_LOCAL_ENDINGS = (".local", ".lan", ".home.arpa", ".internal", ".localdomain", ".localhost")


@dataclass(frozen=True, slots=True)
class Guard:
    """`key` None: none is asked for; `origins` as in the settings; `names` are those of this machine."""

    key: str | None = None
    origins: Sequence[str] = ()
    names: Sequence[str] = ()

    def check(self, method: str, path: str, headers: Mapping[str, str]) -> None:
        """Raise ApiError for a request that is not allowed."""
        self.check_site(headers)
        if method != "OPTIONS" and not is_open(path):
            self.check_key(headers)

    def check_site(self, headers: Mapping[str, str]) -> None:
        """Raise ApiError for a foreign Host or Origin."""
        host = headers.get("host")
        if host is not None and not self._is_ours(host):
            raise ApiError(
                403,
                "this name is not known here: use the machine's address, or add the site to `http_origins`",
                code="host_not_allowed",
            )
        origin = headers.get("origin")
        if origin is not None and not (self.allows(origin) or _is_same(origin, host)):
            raise ApiError(
                403,
                "this site may not use the API: add its origin to `http_origins`",
                code="origin_not_allowed",
            )

    def check_key(self, headers: Mapping[str, str]) -> None:
        """Raise ApiError without the right key."""
        if self.key is None:
            return
        given = _given_key(headers)
        if given is None:
            raise ApiError(
                401, "a key is needed: send it as Authorization: Bearer KEY", code="missing_api_key"
            )
        if not hmac.compare_digest(given.encode("utf-8", "replace"), self.key.encode()):
            raise ApiError(401, "this is not the key: see `http_key` of the agent", code="invalid_api_key")

    def allows(self, origin: str) -> bool:
        """Whether `http_origins` has it."""
        return ANY in self.origins or origin in self.origins

    def _is_ours(self, host: str) -> bool:
        if ANY in self.origins:
            return True
        name = name_in(host)
        known = {one.lower() for one in self.names} | {_host_of(one) for one in self.origins}
        is_local = "." not in name or name.endswith(_LOCAL_ENDINGS)
        return name in known or is_local or is_address(name)


def is_open(path: str) -> bool:
    """Whether a path needs no key."""
    return path in OPEN_PATHS or path.startswith(OPEN_FOLDER)


def _host_of(origin: str) -> str:
    return name_in(origin.partition("://")[2])


def _is_same(origin: str, host: str | None) -> bool:
    """Whether a page of ours asks."""
    return host is not None and origin.partition("://")[2].lower() == host.strip().lower()


def _given_key(headers: Mapping[str, str]) -> str | None:
    """The key in the headers of OpenAI's clients, of llama.cpp's, or of a URL with user:KEY@host."""
    scheme, _, value = headers.get("authorization", "").partition(" ")
    match scheme.lower():
        case "bearer":
            return value.strip()
        case "basic":
            try:
                return b64decode(value, validate=True).decode().partition(":")[2]
            except ValueError:
                return ""
        case _:
            return headers.get("x-api-key") or headers.get("api-key")
