"""Reads the body of a request.

Law: a body takes a bounded time and a bounded part of the memory, alone and together with the others, however
it is divided into pieces and whatever its headers promise.
"""

import asyncio

from starlette.types import Receive, Scope

from edge_agent.http.api_errors import ApiError, too_large

MAX_BODY = 1 << 20  # bytes
MAX_BODIES = 16 << 20  # bytes, of all that are being read
MAX_DROPPED = 8 << 20  # bytes of a body that is too large
BODY_TIMEOUT = 20.0  # seconds


class Bodies:
    """All bodies that are being read."""

    def __init__(self) -> None:
        self._num_bytes = 0

    async def read(self, scope: Scope, receive: Receive) -> bytes:
        """The whole body; raises ApiError, or ClientGoneError."""
        promised, asks_first = _promised(scope)
        if promised > MAX_BODY and asks_first:
            raise too_large(MAX_BODY)
        body = bytearray()
        try:
            async with asyncio.timeout(BODY_TIMEOUT):
                is_whole = await self._take(receive, body)
        except TimeoutError:
            raise ApiError(408, f"the body took over {BODY_TIMEOUT:g} s", code="timeout") from None
        finally:
            self._num_bytes -= len(body)
        if not is_whole:
            raise too_large(MAX_BODY)
        return bytes(body)

    async def _take(self, receive: Receive, body: bytearray) -> bool:
        """Take it in; False if it is too large.

        What is too much is read and dropped, within a limit: a client that is still sending would see a
        broken connection in place of the error.
        """
        num_read = 0
        while num_read <= MAX_DROPPED:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientGoneError
            piece: bytes = message.get("body", b"")
            num_read += len(piece)
            if num_read <= MAX_BODY:
                body += piece
                self._num_bytes += len(piece)
            if self._num_bytes > MAX_BODIES:
                raise ApiError(503, "too many large requests: try again", code="overloaded", retry_after=1)
            if not message.get("more_body", False):
                break
        return num_read <= MAX_BODY


class ClientGoneError(Exception):
    """The client has left: there is nothing to answer."""


def _promised(scope: Scope) -> tuple[int, bool]:
    """The length that the headers state, and whether the client waits for an answer to them."""
    length, asks_first = 0, False
    for name, value in scope["headers"]:
        if name == b"content-length":
            length = int(value) if value.isdigit() and len(value) < 19 else MAX_BODY + 1
        elif name == b"expect":
            asks_first = True
    return length, asks_first
