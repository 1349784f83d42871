"""A worker's snapshot as Prometheus metrics. Imported only when metrics are wanted."""

from collections.abc import Callable, Iterator, Mapping

from cloud_worker.monitoring.snapshot import Snapshot
from cloud_worker.monitoring.tally import WorkerFate
from cloud_worker.scheduling.costs import CostKind
from common.process.prometheus import Metric, MetricFamilies, MetricsCollector

_NAMES = MetricFamilies("hlm_worker")


class Metrics(MetricsCollector):
    """Every metric of one worker; `about` are its name, pool, model and version."""

    def __init__(self, read: Callable[[], Snapshot], about: Mapping[str, str]) -> None:
        super().__init__(lambda: _families(read(), about))


def _families(snapshot: Snapshot, about: Mapping[str, str]) -> Iterator[Metric]:
    yield _NAMES.info("The worker, its pool, model and release.", about)
    yield from _work(snapshot)
    yield from _load(snapshot)
    yield from _NAMES.link(snapshot.link, is_connected=snapshot.is_connected)


def _work(snapshot: Snapshot) -> Iterator[Metric]:
    tally = snapshot.tally
    fates = {fate.value: count for fate, count in tally.num_by_fate.items()}
    refusals = {reason.name.lower(): count for reason, count in tally.num_refusals.items()}
    errors = {kind.value: count for kind, count in tally.num_errors.items()}
    yield _NAMES.counters("tokens", "Tokens, by what became of them.", "fate", fates)
    yield _NAMES.counter("tested_tokens", "Draft tokens that were accepted or rejected.", tally.num_tested)
    yield _NAMES.counter(
        "accepted_tokens", "Draft tokens that were accepted.", tally.num_by_fate[WorkerFate.ACCEPTED]
    )
    yield _NAMES.counters("uplinks", "Messages from devices, by topic.", "way", tally.num_uplinks)
    yield _NAMES.counters("refusals", "Refusals sent to devices, by reason.", "reason", refusals)
    yield _NAMES.counters(
        "errors", "Messages refused as unreadable or too many, failed passes and verdicts.", "kind", errors
    )
    charged = {kind.value: snapshot.charged_seconds.get(kind, 0.0) for kind in CostKind}
    yield _NAMES.counters("charged_seconds", "Time charged to devices, by what it was for.", "kind", charged)
    yield _NAMES.histogram("compute_seconds", "Duration of one forward pass.", tally.compute_seconds)
    yield _NAMES.histogram("batch_size", "Sessions in one forward pass.", tally.batch_sizes)


def _load(snapshot: Snapshot) -> Iterator[Metric]:
    yield _NAMES.gauge("sessions", "Sessions held.", snapshot.num_sessions)
    yield _NAMES.gauge("queue", "Sessions with work waiting.", snapshot.num_waiting)
    yield _NAMES.gauge(
        "cached_tokens",
        "Tokens in the key/value cache, summed over sessions: a shared beginning counts for each.",
        snapshot.num_cached_tokens,
    )
    yield _NAMES.gauge(
        "cache_used_pages",
        "Pages of the key/value cache that sessions hold; a shared page counts once.",
        snapshot.num_used_pages,
    )
    yield _NAMES.gauge("cache_pages", "Pages of the key/value cache in all.", snapshot.num_pages)
    yield _NAMES.gauge("uptime_seconds", "Time since this worker started.", snapshot.uptime)
