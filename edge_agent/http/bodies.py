"""Reads the body of a request.

Law: a body takes a bounded time and a bounded part of the memory, alone and together with the others, however
it is divided into pieces and whatever its headers promise.
"""

import asyncio

from starlette.types import Receive, Scope

from edge_agent.http.api_errors import ApiError, too_large

MAX_BODY = 1 << 20  # bytes
MAX_BODIES = 16 << 20  # bytes, of all that are being read
BODY_TIMEOUT = 20.0  # seconds


class Bodies:
    """All bodies that are being read."""

    def __init__(self) -> None:
        self._num_bytes = 0

    async def read(self, scope: Scope, receive: Receive) -> bytes:
        """The whole body; raises ApiError, or ClientGoneError when the client has left."""
        if _promised(scope) > MAX_BODY:
            raise too_large(MAX_BODY)
        body = bytearray()
        try:
            async with asyncio.timeout(BODY_TIMEOUT):
                while await self._take(receive, body):
                    pass
        except TimeoutError:
            raise ApiError(408, f"the body took over {BODY_TIMEOUT:g} s", code="timeout") from None
        finally:
            self._num_bytes -= len(body)
        return bytes(body)

    async def _take(self, receive: Receive, body: bytearray) -> bool:
        """Take the next piece; whether more follows."""
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGoneError
        piece: bytes = message.get("body", b"")
        body += piece
        self._num_bytes += len(piece)
        if len(body) > MAX_BODY:
            raise too_large(MAX_BODY)
        if self._num_bytes > MAX_BODIES:
            raise ApiError(503, "too many large requests: try again", code="overloaded", retry_after=1)
        return bool(message.get("more_body", False))


class ClientGoneError(Exception):
    """The client has left: there is nothing to answer."""


def _promised(scope: Scope) -> int:
    for name, value in scope["headers"]:
        if name == b"content-length":
            return int(value) if value.isdigit() and len(value) < 19 else MAX_BODY + 1
    return 0
