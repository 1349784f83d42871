"""The worker's retained status: what operators and dashboards see of it, and its last will."""

import json
from dataclasses import dataclass

from common.link import Outgoing


@dataclass(frozen=True, slots=True)
class Presence:
    """The status messages of one worker, as JSON on its own topic."""

    topic: str
    pool: str
    model: str

    def online(self) -> Outgoing:
        """Published after every connect."""
        return self._status("online")

    def offline(self) -> Outgoing:
        """Published by the broker when the connection ends, in whatever way."""
        return self._status("offline")

    def _status(self, state: str) -> Outgoing:
        fields = {"state": state, "pool": self.pool, "model": self.model}
        return Outgoing(self.topic, json.dumps(fields).encode(), qos=1, retain=True)
