"""A broker in virtual time: one server with a queue, and the measured latency of an idle hop on top.

Law: its work is counted in whole messages, those of the workers that are not simulated included.
"""

import math
import random

import simpy

from evaluation.fleet.inputs import BrokerTime


class Broker:
    """One mosquitto. `weight` messages pass through it for each that is simulated (1: all are).

    The others are drawn: between two messages of a slice of a Poisson stream lies a geometric number of
    others. `pings_per_second` is what idle connections cost beside.
    """

    def __init__(
        self,
        env: simpy.Environment,
        time: BrokerTime,
        rng: random.Random,
        *,
        weight: float = 1.0,
        pings_per_second: float = 0.0,
    ) -> None:
        self.num_messages = 0.0
        self._env = env
        self._rng = rng
        self._weight = weight
        self.ping_load = pings_per_second * time.per_ping
        left = max(1e-3, 1.0 - self.ping_load)  # of the processor
        self._seconds = time.per_message / left
        self._hops = [max(0.0, hop - time.per_message) for hop in time.hops]
        self._free_at = 0.0

    def delay(self) -> float:
        """Seconds that a message that comes now takes to its subscriber, its wait included."""
        now = self._env.now
        others = self._others()
        self.num_messages += 1.0 + others
        self._free_at = max(now, self._free_at + others * self._seconds)
        waits = self._free_at - now
        self._free_at += self._seconds
        return waits + self._seconds + self._rng.choice(self._hops)

    def _others(self) -> int:
        """Messages of other workers since the last: geometric with mean `weight` - 1."""
        if self._weight <= 1.0:
            return 0
        miss = 1.0 - 1.0 / self._weight
        return int(math.log(1.0 - self._rng.random()) / math.log(miss))
