"""Counts in the language of Prometheus; the only importer of prometheus-client.

Law: it counts nothing itself. Each scrape translates values that are kept elsewhere for their own sake, so a
process without metrics neither loads the library nor does anything for it.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping

from common.link import LinkStatistics
from common.process.histogram import Histogram
from common.process.http_pages import HttpPage, HttpPagesError

try:
    from prometheus_client import CollectorRegistry, ProcessCollector
    from prometheus_client.core import (
        CounterMetricFamily,
        GaugeMetricFamily,
        HistogramMetricFamily,
        InfoMetricFamily,
        Metric,
    )
    from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
    from prometheus_client.registry import Collector
except ImportError as error:
    raise HttpPagesError(
        "metrics need the package prometheus-client: install it, or leave `metrics_port` at 0"
    ) from error

__all__ = ["Exposition", "Metric", "Names"]


class Exposition(Collector):
    """What `collect` yields at each scrape, and the process's memory, CPU time and open files."""

    def __init__(self, collect: Callable[[], Iterable[Metric]]) -> None:
        self._collect = collect
        self._registry = CollectorRegistry()
        self._registry.register(self)
        ProcessCollector(registry=self._registry)

    def page(self) -> HttpPage:
        """The answer to a scrape."""
        return HttpPage(generate_latest(self._registry), content_type=CONTENT_TYPE_LATEST)

    def describe(self) -> list[Metric]:
        """Nothing: names are known when values are."""
        return []

    def collect(self) -> Iterable[Metric]:
        """For prometheus-client."""
        return self._collect()


class Names:
    """Families of metrics that share a prefix."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix

    def info(self, help: str, facts: Mapping[str, str]) -> Metric:
        """Facts that do not change, as labels."""
        return InfoMetricFamily(self._prefix, help, dict(facts))

    def counter(self, name: str, help: str, value: float) -> Metric:
        """A number that only grows."""
        return CounterMetricFamily(f"{self._prefix}_{name}", help, value)

    def counters(self, name: str, help: str, label: str, values: Mapping[str, float]) -> Metric:
        """Such numbers by the values of a label."""
        family = CounterMetricFamily(f"{self._prefix}_{name}", help, labels=[label])
        for key, value in values.items():
            family.add_metric([str(key)], value)
        return family

    def gauge(self, name: str, help: str, value: float) -> Metric:
        """How something stands now."""
        return GaugeMetricFamily(f"{self._prefix}_{name}", help, value)

    def histogram(self, name: str, help: str, values: Histogram) -> Metric:
        """Values by size."""
        return HistogramMetricFamily(f"{self._prefix}_{name}", help, values.cumulative(), values.sum)

    def link(self, link: LinkStatistics, *, is_connected: bool) -> Iterator[Metric]:
        """What every process knows of its link to the broker."""
        yield self.gauge("connected", "1 while the broker is reached.", int(is_connected))
        yield self.counter("connects", "Connections to the broker, the first included.", link.num_connects)
        yield self.counter("sent_messages", "Messages sent.", link.num_messages_up)
        yield self.counter("sent_bytes", "Whole PUBLISH packets sent, before TLS.", link.num_bytes_up)
        yield self.counter("received_messages", "Messages received.", link.num_messages_down)
        yield self.counter("received_bytes", "Whole PUBLISH packets received.", link.num_bytes_down)
        dropped = {"sending": link.num_dropped_up, "receiving": link.num_dropped_down}
        yield self.counters(
            "dropped_messages", "Not sent for want of a connection, or pushed out unread.", "when", dropped
        )
