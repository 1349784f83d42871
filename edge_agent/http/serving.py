"""Serves an agent over HTTP: first the sockets, then the agent, which may take a while to load.

async with serving(config) as site:  # answers `loading model`
    site.service = service
"""

import socket
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager

from common.process.hosts import is_loopback
from edge_agent.config import AgentConfig
from edge_agent.http import page, status_pages
from edge_agent.http.access.guard import Guard
from edge_agent.http.access.keys import key_of
from edge_agent.http.ollama import pages as ollama
from edge_agent.http.openai import pages as openai
from edge_agent.http.pool import Pool
from edge_agent.http.server.listening import bound, listening
from edge_agent.http.site import Site


class Addresses:
    """Where it is served, and with which new key (None: as set, or none)."""

    def __init__(self, url: str, new_key: str | None) -> None:
        self.url = url
        self.new_key = new_key


def bind(config: AgentConfig) -> list[socket.socket]:
    """The sockets of the settings; raises ServingError."""
    ports = [("http_port", config.http_port), ("ollama_port", config.ollama_port)]
    return [bound(config.http_host, port, name) for name, port in ports if port]


@asynccontextmanager
async def serving(
    config: AgentConfig, sockets: list[socket.socket]
) -> AsyncGenerator[tuple[Site, Addresses]]:
    """Serve within the block; set the site's `service` when there is one. Raises ServingError."""
    key, is_new = key_of(config)
    guard = Guard(key, config.http_origins, (socket.gethostname(),))
    pool = Pool(config) if config.needs_cloud else None
    site = Site(guard, is_private=key is not None or is_loopback(config.http_host), pool=pool)
    site.route(
        [
            *openai.routes(site),
            *ollama.routes(site),
            *status_pages.routes(site),
            *page.routes(site, ollama_port=config.ollama_port),
        ]
    )
    host = f"[{config.http_host}]" if ":" in config.http_host else config.http_host
    shown = socket.gethostname() if config.http_host in ("0.0.0.0", "::") else host
    async with AsyncExitStack() as stack:
        if pool is not None:
            await stack.enter_async_context(pool.running())
        await stack.enter_async_context(listening(site, sockets))
        yield site, Addresses(f"http://{shown}:{config.http_port}", key if is_new else None)
