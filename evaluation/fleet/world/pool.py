"""What a session reaches: the workers, dealt round-robin by the broker, and the hops between. Virtual time.

Law: a message is counted and delayed once for each hop, whichever way it goes.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count, cycle

import simpy

from cloud_worker.scheduling.fair_queue import SessionKey
from evaluation.fleet.world.broker import Broker
from evaluation.fleet.world.worker import Worker

SLOT = 0.05  # seconds by which a deadline may be late: they are looked at in slots


@dataclass(slots=True)
class Gauge:
    """What is counted from `begins` on; `latencies` are seconds from a draft's sending to its answer."""

    begins: float
    latencies: list[float] = field(default_factory=list)
    session_seconds: list[float] = field(default_factory=list)
    num_begun: int = 0
    num_tokens: int = 0
    num_uplinks: int = 0
    num_repeats: int = 0
    num_busy: int = 0
    num_failed: int = 0
    bytes_up: float = 0.0
    bytes_down: float = 0.0


class Pool:
    """The network between devices and workers; `one_way` is the time between a device and the broker."""

    def __init__(
        self,
        env: simpy.Environment,
        workers: Sequence[Worker],
        brokers: Sequence[Broker],
        gauge: Gauge,
        rng: random.Random,
        one_way: float,
    ) -> None:
        self.env, self.gauge, self.rng = env, gauge, rng
        self.num_active = 0
        self._brokers = brokers
        self._one_way = one_way
        self._turns = cycle(workers)
        self._numbers = count()
        self._slots: dict[int, list[Callable[[], None]]] = {}

    def new_key(self) -> SessionKey:
        """Of one more session; each is of another device."""
        return SessionKey(f"device-{next(self._numbers)}", "0")

    def pick_broker(self) -> Broker:
        """The broker that a device is connected to."""
        return self.rng.choice(self._brokers)

    def up(
        self, broker: Broker, num_bytes: float, worker: Worker | None, deliver: Callable[[Worker], None]
    ) -> None:
        """Device to worker; None is the next of the shared subscription."""
        if self.env.now >= self.gauge.begins:
            self.gauge.bytes_up += num_bytes

        def forward() -> None:
            chosen = next(self._turns) if worker is None else worker
            self.after(broker.delay(), lambda: deliver(chosen))

        self.after(self._one_way, forward)

    def down(self, broker: Broker, num_bytes: float, deliver: Callable[[], None]) -> None:
        """Worker to device."""
        if self.env.now >= self.gauge.begins:
            self.gauge.bytes_down += num_bytes
        self.after(broker.delay() + self._one_way, deliver)

    def after(self, seconds: float, call: Callable[[], None]) -> None:
        """Call it then."""
        event = self.env.timeout(seconds)
        assert event.callbacks is not None

        def happened(_: simpy.Event) -> None:
            call()

        event.callbacks.append(happened)

    def remind(self, at: float, call: Callable[[], None]) -> None:
        """Call it at `at` or up to a slot later: cheap for the many deadlines that never matter."""
        slot = int(max(at, self.env.now) / SLOT) + 1
        if slot not in self._slots:
            self._slots[slot] = []
            self.after(slot * SLOT - self.env.now, lambda: self._due(slot))
        self._slots[slot].append(call)

    def _due(self, slot: int) -> None:
        for call in self._slots.pop(slot):
            call()
