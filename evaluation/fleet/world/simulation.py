"""A fleet's load on a pool, run in virtual time, and what came out of it.

Approximations, both held against the full simulation (docs/results/fleet.md): idle devices are an arrival
process; and of a large pool a slice of the workers is simulated with its share of the sessions, while the
broker carries the messages of all.
"""

import random
from collections.abc import Generator
from dataclasses import dataclass, field

import numpy as np
import simpy

from cloud_worker.scheduling.scheduler import Limits
from common.link.settings import LinkSettings
from evaluation.fleet.inputs import BrokerTime
from evaluation.fleet.traces import SchemeTraces
from evaluation.fleet.world.arrivals import Arrivals
from evaluation.fleet.world.broker import Broker
from evaluation.fleet.world.pool import Gauge, Pool
from evaluation.fleet.world.session import DeviceTime, Session
from evaluation.fleet.world.worker import Worker, WorkerTime

KEEPALIVE = LinkSettings("mqtt://broker").keepalive  # seconds between two pings of an idle connection
MAX_ACTIVE = 2  # times the sessions that the workers may hold: more is a queue that only grows
KEEPS_UP = 0.9  # of the sessions that begin, so many must end in the same time, chance aside
MAX_TURNED_AWAY = 0.001  # of the uplinks: a burst of chance, not a habit


@dataclass(frozen=True, slots=True)
class Load:
    """What the devices do: `rate` is sessions a second of one device, at the peak of the day."""

    num_devices: int
    rate: float
    scheme: SchemeTraces
    device: DeviceTime
    burst: float = 1.0

    @property
    def sessions_per_second(self) -> float:
        """Of all devices."""
        return self.num_devices * self.rate


@dataclass(frozen=True, slots=True)
class Site:
    """What the operator runs: workers alike, brokers alike, and the round trip to the devices in seconds."""

    num_workers: int
    worker_time: WorkerTime
    broker_time: BrokerTime
    num_brokers: int = 1
    limits: Limits = field(default_factory=Limits)
    round_trip: float = 0.04


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is simulated: of `max_workers` workers, about `num_answers` corrections after the warm-up."""

    seed: int = 1
    max_workers: int = 8
    num_answers: int = 10_000
    warm_up: float = 10.0
    least_seconds: float = 30.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """Latencies in seconds (None: no answer came); rates are of the whole fleet; loads shares of 1."""

    num_devices: int
    num_workers: int
    num_simulated: int
    p50: float | None
    p99: float | None
    session_p50: float | None
    tokens_per_second: float
    uplinks_per_second: float
    messages_per_second: float
    megabits_up: float
    megabits_down: float
    worker_load: float
    broker_load: float
    batch: float
    pass_seconds: float
    tokens_per_job: float
    num_answers: int
    busy_share: float
    repeat_share: float
    failed_share: float
    num_evicted: int
    is_stable: bool

    def meets(self, target: float) -> bool:
        """Whether 99 of 100 corrections come within `target` seconds, and who asks is served.

        Nobody fails, and at most MAX_TURNED_AWAY of the uplinks are answered `busy`.
        """
        serves = self.is_stable and not self.failed_share and self.busy_share <= MAX_TURNED_AWAY
        return serves and self.p99 is not None and self.p99 <= target


def simulate(load: Load, site: Site, effort: Effort) -> Outcome:
    """One operating point."""
    rng = random.Random(effort.seed)
    env = simpy.Environment()
    num_simulated = min(site.num_workers, effort.max_workers)
    share = num_simulated / site.num_workers
    rate = load.sessions_per_second * share
    ends = effort.warm_up + max(effort.least_seconds, effort.num_answers / load.scheme.mean_answers / rate)
    gauge = Gauge(effort.warm_up)
    num_brokers = max(1, round(site.num_brokers * share))
    pings = load.num_devices / KEEPALIVE / site.num_brokers
    weight = num_brokers / share / site.num_brokers
    brokers = [
        Broker(env, site.broker_time, rng, weight=weight, pings_per_second=pings) for _ in range(num_brokers)
    ]
    workers = [Worker(env, number, site.worker_time, site.limits, rng) for number in range(num_simulated)]
    pool = Pool(env, workers, brokers, gauge, rng, site.round_trip / 2)
    for worker in workers:
        env.process(worker.run())
    env.process(_arrive(pool, load, Arrivals(rate, load.burst), rng))
    limit = MAX_ACTIVE * site.limits.max_sessions * num_simulated
    while env.now < ends and pool.num_active < limit:
        env.run(until=min(ends, env.now + 1.0))
    return _outcome(load, site, workers, brokers, gauge, env.now, pool.num_active < limit)


def _arrive(pool: Pool, load: Load, arrivals: Arrivals, rng: random.Random) -> Generator[simpy.Event]:
    for gap in arrivals.gaps(rng):
        yield pool.env.timeout(gap)
        pool.gauge.num_begun += pool.env.now >= pool.gauge.begins
        trace = rng.choice(load.scheme.traces)
        pool.env.process(Session(pool, load.scheme, trace, load.device).run())


def _outcome(
    load: Load,
    site: Site,
    workers: list[Worker],
    brokers: list[Broker],
    gauge: Gauge,
    ended: float,
    has_ended: bool,
) -> Outcome:
    seconds = max(1e-9, ended - gauge.begins)
    scale = site.num_workers / len(workers)
    latencies = np.array(gauge.latencies)
    num_messages = sum(broker.num_messages for broker in brokers) / ended
    message_load = num_messages * site.broker_time.per_message / len(brokers)
    num_ended = len(gauge.session_seconds) + gauge.num_failed
    asked = max(1, gauge.num_uplinks)
    busy = sum(worker.busy_seconds for worker in workers) / len(workers) / ended
    return Outcome(
        num_devices=load.num_devices,
        num_workers=site.num_workers,
        num_simulated=len(workers),
        p50=float(np.quantile(latencies, 0.5)) if len(latencies) else None,
        p99=float(np.quantile(latencies, 0.99)) if len(latencies) else None,
        session_p50=float(np.median(gauge.session_seconds)) if gauge.session_seconds else None,
        tokens_per_second=scale * gauge.num_tokens / seconds,
        uplinks_per_second=scale * gauge.num_uplinks / seconds,
        messages_per_second=num_messages * site.num_brokers / len(brokers),
        megabits_up=scale * gauge.bytes_up * 8e-6 / seconds,
        megabits_down=scale * gauge.bytes_down * 8e-6 / seconds,
        worker_load=busy,
        broker_load=message_load + brokers[0].ping_load,
        batch=sum(worker.num_jobs for worker in workers)
        / max(1, sum(worker.num_passes for worker in workers)),
        pass_seconds=sum(worker.busy_seconds for worker in workers)
        / max(1, sum(worker.num_passes for worker in workers)),
        tokens_per_job=sum(worker.num_tokens for worker in workers)
        / max(1, sum(worker.num_jobs for worker in workers)),
        num_answers=len(latencies),
        busy_share=gauge.num_busy / asked,
        repeat_share=gauge.num_repeats / asked,
        failed_share=gauge.num_failed / max(1, num_ended),
        num_evicted=sum(worker.num_evicted for worker in workers),
        is_stable=has_ended
        and num_ended + 2 * gauge.num_begun**0.5 >= KEEPS_UP * gauge.num_begun
        and message_load + brokers[0].ping_load < 1.0,
    )
