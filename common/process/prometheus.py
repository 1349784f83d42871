"""Counts in the Prometheus format; the only importer of prometheus-client.

Law: it counts nothing itself. Each scrape translates values that the process keeps anyway, so a process
without metrics neither loads the library nor does any work for it.
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

__all__ = ["Metric", "MetricFamilies", "MetricsCollector"]


class MetricsCollector(Collector):
    """The metrics that `collect` yields at each scrape, and the process's memory, CPU time and open files."""

    def __init__(self, collect: Callable[[], Iterable[Metric]]) -> None:
        self._collect = collect
        self._registry = CollectorRegistry()
        self._registry.register(self)
        ProcessCollector(registry=self._registry)

    def page(self) -> HttpPage:
        """The answer to a scrape."""
        return HttpPage(generate_latest(self._registry), content_type=CONTENT_TYPE_LATEST)

    def describe(self) -> list[Metric]:
        """Nothing: the names are known only with the values."""
        return []

    def collect(self) -> Iterable[Metric]:
        """The metrics, as prometheus-client asks for them."""
        return self._collect()


class MetricFamilies:
    """Makes metric families whose names share a prefix."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix

    def info(self, help: str, facts: Mapping[str, str]) -> Metric:
        """Facts that do not change, as labels."""
        return InfoMetricFamily(self._prefix, help, dict(facts))

    def counter(self, name: str, help: str, value: float) -> Metric:
        """A number that only grows."""
        return CounterMetricFamily(f"{self._prefix}_{name}", help, value)

    def counters(self, name: str, help: str, label: str, values: Mapping[str, float]) -> Metric:
        """Numbers that only grow, one for each value of a label."""
        family = CounterMetricFamily(f"{self._prefix}_{name}", help, labels=[label])
        for key, value in values.items():
            family.add_metric([str(key)], value)
        return family

    def gauge(self, name: str, help: str, value: float) -> Metric:
        """The current value of something."""
        return GaugeMetricFamily(f"{self._prefix}_{name}", help, value)

    def gauges(self, name: str, help: str, label: str, values: Mapping[str, float]) -> Metric:
        """The current values of something, one for each value of a label."""
        family = GaugeMetricFamily(f"{self._prefix}_{name}", help, labels=[label])
        for key, value in values.items():
            family.add_metric([str(key)], value)
        return family

    def histogram(self, name: str, help: str, values: Histogram) -> Metric:
        """The distribution of values by size."""
        return HistogramMetricFamily(f"{self._prefix}_{name}", help, values.cumulative(), values.sum)

    def link(self, link: LinkStatistics, *, is_connected: bool) -> Iterator[Metric]:
        """The metrics of a process's link to the broker."""
        yield self.gauge("connected", "1 while connected to the broker.", int(is_connected))
        yield self.counter("connects", "Connections to the broker, including the first.", link.num_connects)
        yield self.counter("sent_messages", "Messages sent.", link.num_messages_up)
        yield self.counter("sent_bytes", "Whole PUBLISH packets sent, before TLS.", link.num_bytes_up)
        yield self.counter("received_messages", "Messages received.", link.num_messages_down)
        yield self.counter("received_bytes", "Whole PUBLISH packets received.", link.num_bytes_down)
        dropped = {"sending": link.num_dropped_up, "receiving": link.num_dropped_down}
        yield self.counters(
            "dropped_messages", "Not sent for lack of a connection, or dropped unread.", "when", dropped
        )
        if link.certificates:
            yield self.gauges(
                "certificate_expiry_timestamp_seconds",
                "When each certificate of the connection expires, in Unix time.",
                "certificate",
                {one.name: one.expires for one in link.certificates},
            )
