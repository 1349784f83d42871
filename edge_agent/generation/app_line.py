"""The apps' share of the agent's connection: what they send, and one retained topic that shows who is there.

An account at a production broker is one connection, so apps cannot have another. Law: what apps send costs a
bounded amount of memory and never delays an answer of the cloud: it waits here, and the newest is dropped
when `MAX_WAITING` messages wait.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence

from common.floods import is_logged
from common.link import Delivery, Link, Publish, Received
from common.protocol.limits import MAX_APP_PAYLOAD_BYTES
from common.protocol.topics import HOME_ASSISTANT_STATUS, STATE, Topics
from edge_agent.config import AgentConfig

MAX_WAITING = 64
ONLINE, OFFLINE = b"online", b"offline"

Watch = Callable[[bool], None]

_log = logging.getLogger(__name__)


class AppLine:
    """Made before the agent connects; `received` are the apps' messages, for one reader."""

    def __init__(self, subscriptions: Sequence[str], will: Publish) -> None:
        self.subscriptions = tuple(subscriptions)
        self.will = will
        self.received: asyncio.Queue[Received] = asyncio.Queue(MAX_WAITING)
        self.num_dropped = 0
        self.watch: Watch | None = None  # called in the event loop when the connection comes or goes
        self._link: Link | None = None

    @classmethod
    def of(cls, config: AgentConfig) -> "AppLine":
        """The line of the config's device."""
        topics, device = Topics(config.root), config.device_name
        of_home_assistant = (HOME_ASSISTANT_STATUS,) if config.home_assistant == "on" else ()
        return cls(
            (*topics.from_apps(device), *of_home_assistant), Publish(topics.app(device, STATE), OFFLINE)
        )

    def join(self, link: Link) -> None:
        """Use this connection."""
        self._link = link

    @property
    def connected(self) -> bool:
        """Whether messages can be sent."""
        return self._link is not None and self._link.connected

    @property
    def num_connects(self) -> int:
        """How often the connection was made."""
        return 0 if self._link is None else self._link.statistics.num_connects

    async def send(
        self, topic: str, payload: bytes, *, qos: int, retain: bool, correlation: bytes | None = None
    ) -> Delivery:
        """As `Link.send`."""
        if self._link is None:
            return Delivery.DROPPED
        return await self._link.send(topic, payload, qos=qos, retain=retain, correlation=correlation)

    def takes(self, received: Received) -> bool:
        """Keep a message for the reader, if it is one of an app."""
        if received.topic not in self.subscriptions:
            return False
        if len(received.payload) > MAX_APP_PAYLOAD_BYTES:  # one byte more shows that it is too long
            kept = received.payload[: MAX_APP_PAYLOAD_BYTES + 1]
            received = Received(received.topic, kept, received.retain, received.properties)
        try:
            self.received.put_nowait(received)
        except asyncio.QueueFull:
            self._drop()
        return True

    def _drop(self) -> None:
        """Log the 1st, 2nd, 4th, 8th ... of a flood."""
        self.num_dropped += 1
        if is_logged(self.num_dropped):
            _log.warning("apps send more than is read; %d messages dropped in all", self.num_dropped)

    def tell(self, connected: bool) -> None:
        """The connection has come or gone."""
        if self.watch is not None:
            self.watch(connected)
