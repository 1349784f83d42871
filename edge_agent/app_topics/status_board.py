"""The retained topics that show how the agent is: status, stats, state, the last answer.

Law: each is published when it changes, and all of them after every connection, since a broker may have lost
them.
"""

import asyncio
from collections.abc import Callable
from typing import Protocol

from common.protocol.topics import LAST, STATE, STATS, STATUS
from edge_agent.app_topics.json_objects import Object, write
from edge_agent.app_topics.outbox import Kind, Outgoing
from edge_agent.generation.app_line import ONLINE
from edge_agent.service import facts
from edge_agent.service.service import Service

STATUS_SECONDS = 2.0  # between two looks at what changes without a notice
STATS_SECONDS = 30.0


class Put(Protocol):
    """Sends a message, before all others with `first`."""

    def __call__(self, message: Outgoing, *, first: bool = False) -> None: ...


class StatusBoard:
    """`topic(name)` is that of the device; `put` sends a message."""

    def __init__(self, service: Service, topic: Callable[[str], str], put: Put) -> None:
        self._service = service
        self._topic = topic
        self._put = put
        self._shown: dict[str, bytes] = {}

    def show_all(self) -> None:
        """After a connection."""
        last = self._shown.get(LAST)
        self._shown.clear()
        self._show(STATE, ONLINE)
        self.show_status()
        self.show_stats()
        if last is not None:
            self._show(LAST, last)

    def show_status(self) -> None:
        """Publish the status if it has changed."""
        self._show(STATUS, write(facts.status(self._service)))

    def show_stats(self) -> None:
        """Publish the counts if they have changed."""
        self._show(STATS, write(facts.stats(self._service)))

    def show_last(self, answer: Object) -> None:
        """Publish the last answer."""
        self._show(LAST, write(answer))

    async def run(self) -> None:
        """Look again and again until cancelled."""
        while True:
            for _ in range(round(STATS_SECONDS / STATUS_SECONDS)):
                await asyncio.sleep(STATUS_SECONDS)
                self.show_status()
            self.show_stats()

    def _show(self, name: str, payload: bytes) -> None:
        if self._shown.get(name) != payload:
            self._shown[name] = payload
            self._put(Outgoing(Kind.RETAINED, self._topic(name), payload), first=name != LAST)
