"""Sends what the outbox has while the broker is there, and again what did not arrive.

Law: an answer leaves the outbox only when the broker has it, or when the broker does not take it at all.
"""

import asyncio
import logging
import time

from common.link import Delivery
from edge_agent.app_topics.outbox import Kind, Outbox, Outgoing
from edge_agent.generation.app_line import AppLine

WINDOW = 16  # messages without an acknowledgement
MAX_COMPLAINTS = 16  # topics whose refusal is logged
PAUSE = 1.0  # seconds until something is tried again

_log = logging.getLogger(__name__)


class Sender:
    """`put` messages; `run` sends them until it is cancelled."""

    def __init__(self, line: AppLine) -> None:
        self._line = line
        self._outbox = Outbox()
        self._wake = asyncio.Event()
        self._window = asyncio.Semaphore(WINDOW)
        self._sending: set[asyncio.Task[None]] = set()
        self._refused: set[str] = set()  # topics, so that each is logged once

    def put(self, message: Outgoing, *, first: bool = False) -> None:
        """Send a message as soon as that is possible, before all others with `first`."""
        if message.kind is not Kind.TOKENS or self._line.connected:
            self._outbox.put(message, first=first)
            self._wake.set()

    def connection_changed(self) -> None:
        """The connection has come or gone."""
        self._outbox.drop_tokens()
        self._wake.set()

    async def run(self) -> None:
        """Send until cancelled."""
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                await self._send_all()
        finally:
            for task in self._sending:
                task.cancel()
            await asyncio.gather(*self._sending, return_exceptions=True)

    async def emptied(self, timeout: float) -> None:
        """Wait until all is sent, as long as there is a connection, and no longer than `timeout` seconds."""
        end = time.monotonic() + timeout
        while self._line.connected and (self._outbox or self._sending) and time.monotonic() < end:
            self._wake.set()
            await asyncio.sleep(0.01)

    async def _send_all(self) -> None:
        while self._line.connected:
            await self._window.acquire()
            message = self._outbox.take()
            if message is None:
                self._window.release()
                return
            if message.kind is Kind.TOKENS:  # before what follows them, and without waiting
                await self._line.send(message.topic, message.payload, qos=0, retain=False)
                self._window.release()
                continue
            task = asyncio.create_task(self._send(message), name="to apps")
            self._sending.add(task)
            task.add_done_callback(self._sending.discard)
            task.add_done_callback(lambda _task: self._window.release())

    async def _send(self, message: Outgoing) -> None:
        is_retained = message.kind is Kind.RETAINED
        delivery = await self._line.send(
            message.topic, message.payload, qos=1, retain=is_retained, correlation=message.correlation
        )
        match delivery:
            case Delivery.DROPPED | Delivery.BUSY:
                self._outbox.put_back(message)
                self._wake_later()
            case Delivery.NO_SUBSCRIBERS if time.monotonic() < message.wants_reader_until:
                asyncio.get_running_loop().call_later(PAUSE, self._again, message)  # apps reconnect slowly
            case Delivery.REFUSED | Delivery.INVALID if self._is_news(message.topic):
                _log.warning(
                    "the broker does not let this account send to %s: see docs/apps.md", message.topic
                )
            case _:
                pass

    def _is_news(self, topic: str) -> bool:
        """Whether the broker refuses this topic for the first time; apps choose some, so few are kept."""
        is_news = topic not in self._refused and len(self._refused) < MAX_COMPLAINTS
        self._refused.update((topic,) if is_news else ())
        return is_news

    def _again(self, message: Outgoing) -> None:
        self._outbox.put_back(message)
        self._wake.set()

    def _wake_later(self) -> None:
        asyncio.get_running_loop().call_later(PAUSE, self._wake.set)
