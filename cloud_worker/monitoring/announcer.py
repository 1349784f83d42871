"""Publishes the worker's retained status: at once after a connect or a change of state, else periodically.

`Presence` decides whether a status is worth a message.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress

from cloud_worker.monitoring.presence import Presence
from common.link import Link
from common.protocol.worker_status import Status


class Announcer:
    """Publishes what `read` returns, every `interval` seconds and whenever `announce` asks for it."""

    def __init__(self, presence: Presence, read: Callable[[], Status], interval: float) -> None:
        self._presence = presence
        self._read = read
        self._interval = interval
        self._is_due = asyncio.Event()

    def announce(self) -> None:
        """Publish the status now instead of after the interval."""
        self._is_due.set()

    def link_changed(self, connected: bool) -> None:
        """After a connect the broker may still show the last will: publish again."""
        if connected:
            self._presence.forget()
            self.announce()

    async def run(self, link: Link) -> None:
        """Publish until cancelled."""
        while True:
            self._is_due.clear()
            message = self._presence.message(self._read())
            if message is not None:
                await link.send(message.topic, message.payload, qos=message.qos, retain=message.retain)
            with suppress(TimeoutError):
                async with asyncio.timeout(self._interval):
                    await self._is_due.wait()
