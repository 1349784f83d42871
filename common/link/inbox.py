"""Received messages that wait for their reader.

Law: memory is bounded. When the inbox is full it drops the oldest messages, because their senders give up on
them first (the protocol sends again). A cancelled `get` never loses a message.
"""

import asyncio
from collections import deque

from common.link.values import Received

MAX_MESSAGES = 4096
MAX_BYTES = 64 * 1024 * 1024


class Inbox:
    """A bounded queue for one reader on one event loop."""

    def __init__(self, max_messages: int = MAX_MESSAGES, max_bytes: int = MAX_BYTES) -> None:
        self._max_messages = max_messages
        self._max_bytes = max_bytes
        self._waiting: deque[Received] = deque()
        self._num_bytes = 0
        self._changed = asyncio.Event()
        self._closed = False

    def put(self, message: Received) -> int:
        """Add a message; returns how many older ones were dropped for it."""
        self._waiting.append(message)
        self._num_bytes += _size(message)
        num_dropped = 0
        while len(self._waiting) > self._max_messages or self._num_bytes > self._max_bytes:
            self._pop()
            num_dropped += 1
        self._changed.set()
        return num_dropped

    async def get(self) -> Received | None:
        """Wait for the oldest message; None once the inbox is closed and empty."""
        while not self._waiting:
            if self._closed:
                return None
            self._changed.clear()
            await self._changed.wait()
        return self._pop()

    def close(self) -> None:
        """Wake the reader: no more messages will come."""
        self._closed = True
        self._changed.set()

    def _pop(self) -> Received:
        message = self._waiting.popleft()
        self._num_bytes -= _size(message)
        return message


def _size(message: Received) -> int:
    return len(message.payload) + len(message.properties)
