"""The key that clients must send: as set, or generated where other machines can connect."""

import os
import secrets

from common.process.broker_config import read_secret
from common.process.hosts import is_loopback
from edge_agent.config import HTTP_KEY, AgentConfig
from edge_agent.errors import ServingError


def key_of(config: AgentConfig) -> tuple[str | None, bool]:
    """The key, None for none, and whether it is a new one that nobody knows yet; raises ServingError."""
    if config.http_key is not None:
        return config.http_key, False
    if config.http_key_file is not None:
        return _read(config.http_key_file), False
    if not config.http_auth or is_loopback(config.http_host):
        return None, False
    return f"hlm-{secrets.token_urlsafe(24)}", True


def _read(path: str) -> str:
    path = os.path.expanduser(path)
    try:
        key = read_secret(path)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise ServingError(f"cannot read `http_key_file` {path} ({reason})") from error
    if not HTTP_KEY.fullmatch(key):
        raise ServingError(
            f"`http_key_file` {path} must begin with a line of 8 to 200 characters without spaces"
        )
    return key
