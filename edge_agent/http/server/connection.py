"""One HTTP connection: uvicorn's, with limits that it lacks.

Law: a connection that sends no whole head, or does not read what it gets, ends after a bounded time. One more
than the limit is refused at once. So slow clients cost a bounded number of connections.
"""

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

MAX_CONNECTIONS = 256
HEAD_TIMEOUT = 10.0  # seconds for the request line and the headers
READ_TIMEOUT = 30.0  # seconds for which a client may read nothing

_FULL = (
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
)


class LimitedConnection(H11Protocol):
    """See above."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self._head_timer: asyncio.TimerHandle | None = None
        self._read_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin, or refuse."""
        super().connection_made(transport)
        if len(self.connections) > MAX_CONNECTIONS:
            transport.write(_FULL)
            transport.close()
            return
        self._watch_head()

    def data_received(self, data: bytes) -> None:
        """Take in bytes."""
        if self.transport.is_closing():
            return
        super().data_received(data)
        self._watch_head()

    def pause_writing(self) -> None:
        """The client reads more slowly than it is written to."""
        super().pause_writing()
        self._read_timer = self.loop.call_later(READ_TIMEOUT, self.transport.abort)

    def resume_writing(self) -> None:
        """The client has caught up."""
        self._stop_read_timer()
        super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        self._stop_head_timer()
        self._stop_read_timer()
        super().connection_lost(exc)

    def _watch_head(self) -> None:
        """Run the timer while no request is being answered; more bytes do not lengthen it."""
        is_busy = bool(self.cycle) and not self.cycle.response_complete
        if is_busy:
            self._stop_head_timer()
        elif self._head_timer is None:
            self._head_timer = self.loop.call_later(HEAD_TIMEOUT, self.transport.abort)

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _stop_read_timer(self) -> None:
        if self._read_timer is not None:
            self._read_timer.cancel()
            self._read_timer = None
