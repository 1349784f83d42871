"""The sockets, and uvicorn on them.

Law: an address that cannot be used is a one-line error before anything is loaded. Uvicorn handles no signal,
writes no log of its own, and ends when the block does.
"""

import asyncio
import logging
import os
import socket
from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager

import uvicorn
from starlette.types import ASGIApp

from edge_agent.errors import ServingError
from edge_agent.http.server.connection import LimitedConnection

BACKLOG = 128
KEEP_ALIVE = 15  # seconds that an idle connection is kept
LAST_WORDS = 3  # seconds to send what is being sent at the end


def bound(host: str, port: int, setting: str) -> socket.socket:
    """A socket that listens; ServingError when the address cannot be used."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if host == "::":
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        reason = os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)
        raise ServingError(
            f"cannot listen on {host}:{port} ({reason}): set `{setting}` or `http_host`"
        ) from error
    listener.setblocking(False)
    return listener


@asynccontextmanager
async def listening(site: ASGIApp, sockets: Sequence[socket.socket]) -> AsyncGenerator[None]:
    """Serve on the sockets within the block."""
    config = uvicorn.Config(
        site,
        http=LimitedConnection,
        ws="none",
        lifespan="off",
        loop="asyncio",
        interface="asgi3",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE,
        timeout_graceful_shutdown=LAST_WORDS,
    )
    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)  # of its own it knows only bad requests
    server = _Server(config)
    serving = asyncio.create_task(server.serve(sockets=list(sockets)), name="http")
    try:
        yield
    finally:
        server.end()
        await serving


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._ended = asyncio.Event()

    def end(self) -> None:
        self.should_exit = True
        self._ended.set()

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        """Leave signals to the command."""
        yield

    async def main_loop(self) -> None:
        """Wait for the end; uvicorn's own wakes ten times a second."""
        await self.on_tick(0)
        await self._ended.wait()
