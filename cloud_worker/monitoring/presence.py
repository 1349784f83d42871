"""When a worker publishes its retained status, and its last will. Pure.

Law: the retained status is the last one that was true. A status that differs only in the time is not
published again.
"""

import dataclasses

from common.link.values import Publish
from common.protocol.worker_status import Status

OFFLINE_SHOWN = 24 * 3600  # seconds that the broker keeps the status of an offline worker


class Presence:
    """The status messages of one worker on its topic, each made only when it has news."""

    def __init__(self, topic: str, last_will: Status) -> None:
        """`last_will` is what the broker publishes when the connection ends in any way."""
        self.will = Publish(topic, last_will.payload(), expiry=OFFLINE_SHOWN)
        self._topic = topic
        self._published: Status | None = None

    def forget(self) -> None:
        """After a new connection: the broker may show the last will instead of the published status."""
        self._published = None

    def message(self, status: Status) -> Publish | None:
        """The message that publishes `status`; None when nothing but the time has changed."""
        last = self._published
        if last is not None and status == dataclasses.replace(last, uptime=status.uptime):
            return None
        self._published = status
        return Publish(self._topic, status.payload(), qos=1, retain=True)
