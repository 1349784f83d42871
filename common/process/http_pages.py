"""A few read-only HTTP pages for monitoring systems, served by threads beside the event loop.

Law: a page is made in the event loop that it reports on, so it never shows half a change. If the loop no
longer runs, the answer is 503. A slow client occupies a thread for a few seconds, never the loop. Pages
on a loopback address answer to no foreign name in the Host header, so no site in a browser on this machine
can read them.
"""

import asyncio
import logging
import os
import socket
import threading
from collections.abc import Callable, Mapping, Set
from concurrent.futures import TimeoutError as NoAnswerError
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from types import TracebackType
from typing import Self

from common.process.hosts import is_address, is_loopback, name_in

REQUEST_TIMEOUT = 5.0
LOOP_TIMEOUT = 3.0  # below the usual timeout of monitoring systems

_log = logging.getLogger(__name__)


class HttpPagesError(Exception):
    """The pages cannot be served: a one-line message with the reason and what to do."""


@dataclass(frozen=True, slots=True)
class HttpPage:
    """The answer to a request."""

    body: bytes
    status: int = 200
    content_type: str = "text/plain; charset=utf-8"

    @classmethod
    def text(cls, line: str, *, status: int = 200) -> "HttpPage":
        """A line of text."""
        return cls(f"{line}\n".encode(), status)


MakePage = Callable[[], HttpPage]


def made_in(loop: asyncio.AbstractEventLoop, make: MakePage) -> HttpPage:
    """The page that `make` returns when called in `loop`; 503 if the loop does not get to it in time."""

    async def call() -> HttpPage:
        return make()

    coroutine = call()
    try:
        return asyncio.run_coroutine_threadsafe(coroutine, loop).result(LOOP_TIMEOUT)
    except NoAnswerError:
        return HttpPage.text(f"the event loop has been blocked for {LOOP_TIMEOUT:g} s", status=503)
    except RuntimeError:  # the loop has ended
        coroutine.close()
        return HttpPage.text("the event loop has stopped", status=503)


class HttpPages:
    """`with HttpPages(host, port, {"/health": make}): ...`; HttpPagesError if the port is in use."""

    def __init__(self, host: str, port: int, pages: Mapping[str, MakePage]) -> None:
        self._address = (host, port)
        self._pages = dict(pages)
        self._server: ThreadingHTTPServer | None = None

    def __enter__(self) -> Self:
        host, port = self._address
        hosts = {"localhost", host.lower()} if is_loopback(host) else None
        handler = type("Handler", (_Handler,), {"pages": self._pages, "hosts": hosts})
        try:
            self._server = _Server(self._address, handler)
        except (OSError, OverflowError) as error:
            number = error.errno if isinstance(error, OSError) else None
            reason = os.strerror(number) if number and number > 0 else str(error)
            raise HttpPagesError(
                f"cannot serve metrics on {host}:{port} ({reason}): set `metrics_port` or `metrics_host`"
            ) from error
        threading.Thread(target=self._server.serve_forever, name="pages", daemon=True).start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        super().__init__(address, handler)

    def server_bind(self) -> None:
        """As HTTPServer's, without its DNS lookup, which may take seconds."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = "", int(self.server_address[1])

    def handle_error(self, request: object, client_address: object) -> None:  # noqa: ARG002
        """A client that hung up is not worth more than a debug record."""
        _log.debug("a request for metrics was not answered", exc_info=True)


class _Handler(BaseHTTPRequestHandler):
    pages: Mapping[str, MakePage]
    hosts: Set[str] | None  # the names it answers to besides addresses; None: all
    timeout = REQUEST_TIMEOUT

    def do_GET(self) -> None:
        if self.hosts is not None and not all(map(self._is_ours, self.headers.get_all("Host") or [])):
            self._send(HttpPage.text("this page is for this machine only: use localhost", status=403))
            return
        make = self.pages.get(self.path.partition("?")[0])
        self._send(make() if make else HttpPage.text(f"not found; try {', '.join(self.pages)}", status=404))

    def _is_ours(self, host: str) -> bool:
        """False for the name of a site that has let its name point to this machine (DNS rebinding)."""
        name = name_in(host)
        return name in (self.hosts or ()) or is_address(name)

    def _send(self, page: HttpPage) -> None:
        self.send_response(page.status)
        self.send_header("Content-Type", page.content_type)
        self.send_header("Content-Length", str(len(page.body)))
        self.end_headers()
        self.wfile.write(page.body)

    def log_message(self, format: str, *args: object) -> None:
        _log.debug(f"pages: {format}", *args)
