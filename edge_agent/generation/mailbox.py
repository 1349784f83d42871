"""A session's place at the exchange: it sends under its own name and collects what arrives for it."""

import asyncio
import time
from collections.abc import Iterable
from typing import Protocol, TypeAlias

from common.link import Traffic
from common.process.log import about
from edge_agent.session.events import Event
from edge_agent.session.send_window import Outgoing

Inbox: TypeAlias = "asyncio.Queue[Event | BaseException]"


class Carrier(Protocol):
    """What a mailbox asks of the exchange."""

    def join(self, session: str, inbox: Inbox, traffic: Traffic) -> None:
        """Put what arrives for the session into `inbox`, and count its bytes, from now on."""
        ...

    def leave(self, session: str) -> None:
        """Put nothing more into the session's inbox."""
        ...

    async def send(self, session: str, outgoing: Outgoing) -> None:
        """Publish a message of the session."""
        ...


class Mailbox:
    """Made for each generation; `carrier` is None for a scheme that sends nothing.

    The draft model of the session reports to the same inbox: a `Drafted`, a `DraftFailed`, or an error
    that is none of an agent's.
    """

    def __init__(self, name: str, carrier: Carrier | None) -> None:
        """`name` is the session's in topics and logs."""
        self.name = name
        self.inbox: Inbox = asyncio.Queue()
        self.traffic = Traffic()
        self._carrier = carrier

    def join(self) -> None:
        """Begin to receive."""
        if self._carrier is not None:
            self._carrier.join(self.name, self.inbox, self.traffic)

    def leave(self) -> None:
        """Receive nothing more."""
        if self._carrier is not None:
            self._carrier.leave(self.name)

    async def send(self, outgoing: Outgoing) -> None:
        """Publish a message; only where there is a carrier."""
        assert self._carrier is not None  # a scheme that sends has one
        with about(session=self.name):
            await self._carrier.send(self.name, outgoing)

    async def receive(self, until: float | None) -> list[Event]:
        """All that has arrived: at least one event, unless `time.monotonic()` reaches `until` first.

        Raises what the draft model raised.
        """
        try:
            async with asyncio.timeout(None if until is None else max(0.0, until - time.monotonic())):
                arrived = [await self.inbox.get()]
        except TimeoutError:
            return []
        return _events([*arrived, *self._take_all()])

    def arrived(self) -> list[Event]:
        """All that has arrived, without waiting; raises what the draft model raised."""
        return _events(self._take_all())

    def _take_all(self) -> list[Event | BaseException]:
        taken: list[Event | BaseException] = []
        while not self.inbox.empty():
            taken.append(self.inbox.get_nowait())
        return taken


def _events(arrived: Iterable[Event | BaseException]) -> list[Event]:
    events: list[Event] = []
    for one in arrived:
        if isinstance(one, BaseException):
            raise one
        events.append(one)
    return events
