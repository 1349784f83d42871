"""A few pages over HTTP for monitoring systems, read-only, served by threads beside the event loop.

Law: a page is made in the event loop that it tells about, so it never shows half a change, and a loop that no
longer turns is an answer too (503). Slow clients cost a thread for some seconds, never the loop.
"""

import asyncio
import logging
import os
import socket
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import TimeoutError as NoAnswerError
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from types import TracebackType
from typing import Self

REQUEST_TIMEOUT = 5.0
LOOP_TIMEOUT = 3.0  # below the usual timeout of those who ask

_log = logging.getLogger(__name__)


class HttpPagesError(Exception):
    """The pages cannot be served: one sentence that says why and what to do."""


@dataclass(frozen=True, slots=True)
class HttpPage:
    """What a request is answered with."""

    body: bytes
    status: int = 200
    content_type: str = "text/plain; charset=utf-8"

    @classmethod
    def text(cls, sentence: str, *, status: int = 200) -> "HttpPage":
        """A line of text."""
        return cls(f"{sentence}\n".encode(), status)


MakePage = Callable[[], HttpPage]


def made_in(loop: asyncio.AbstractEventLoop, make: MakePage) -> HttpPage:
    """The page as `make` gives it when called in `loop`; 503 when the loop does not get to it."""

    async def call() -> HttpPage:
        return make()

    coroutine = call()
    try:
        return asyncio.run_coroutine_threadsafe(coroutine, loop).result(LOOP_TIMEOUT)
    except NoAnswerError:
        return HttpPage.text(f"the event loop has not turned for {LOOP_TIMEOUT:g} s", status=503)
    except RuntimeError:  # the loop has ended
        coroutine.close()
        return HttpPage.text("it has stopped", status=503)


class HttpPages:
    """`with HttpPages(host, port, {"/health": make}): ...`; HttpPagesError when the port is taken."""

    def __init__(self, host: str, port: int, pages: Mapping[str, MakePage]) -> None:
        self._address = (host, port)
        self._pages = dict(pages)
        self._server: ThreadingHTTPServer | None = None

    def __enter__(self) -> Self:
        host, port = self._address
        handler = type("Handler", (_Handler,), {"pages": self._pages})
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
        """Without HTTPServer's look at the domain name system, which may take seconds."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = "", int(self.server_address[1])

    def handle_error(self, request: object, client_address: object) -> None:  # noqa: ARG002
        """A client that hung up is no news."""
        _log.debug("a request for metrics was not answered", exc_info=True)


class _Handler(BaseHTTPRequestHandler):
    pages: Mapping[str, MakePage]
    timeout = REQUEST_TIMEOUT

    def do_GET(self) -> None:
        make = self.pages.get(self.path.partition("?")[0])
        page = make() if make else HttpPage.text(f"there are {', '.join(self.pages)}", status=404)
        self.send_response(page.status)
        self.send_header("Content-Type", page.content_type)
        self.send_header("Content-Length", str(len(page.body)))
        self.end_headers()
        self.wfile.write(page.body)

    def log_message(self, format: str, *args: object) -> None:
        _log.debug(f"pages: {format}", *args)
