"""An agent's totals and link as Prometheus metrics. Loaded only when `metrics_port` is set."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from common.link import LinkStatistics
from common.process.prometheus import Metric, MetricFamilies, MetricsCollector
from edge_agent.monitoring.totals import Totals

_NAMES = MetricFamilies("hlm_edge")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The state of an agent at one moment."""

    totals: Totals
    threshold: float  # of the next generation
    link: LinkStatistics
    is_connected: bool
    num_waiting: int = 0  # generations that wait for a slot


class Metrics(MetricsCollector):
    """Every metric of one agent; `about` has facts such as the device's name."""

    def __init__(self, read: Callable[[], Snapshot], about: Mapping[str, str]) -> None:
        super().__init__(lambda: _families(read(), about))


def _families(snapshot: Snapshot, about: Mapping[str, str]) -> Iterator[Metric]:
    yield _NAMES.info("The device, its pool, model, scheme and release.", about)
    yield from _tokens(snapshot.totals)
    yield _NAMES.gauge("generating", "1 while a generation runs.", int(snapshot.totals.is_generating))
    yield _NAMES.gauge("running_generations", "Generations that have a slot.", snapshot.totals.num_running)
    yield _NAMES.gauge("waiting_generations", "Generations that wait for a slot.", snapshot.num_waiting)
    yield _NAMES.gauge("threshold", "Uncertainty above which a token is verified.", snapshot.threshold)
    yield from _answers(snapshot.totals)
    yield from _NAMES.link(snapshot.link, is_connected=snapshot.is_connected)


def _tokens(totals: Totals) -> Iterator[Metric]:
    tally = totals.tally
    fates = {fate.value: count for fate, count in tally.num_by_fate.items()}
    yield _NAMES.counters("tokens", "Final tokens by where they came from.", "fate", fates)
    yield _NAMES.counter("uplinks", "Drafts sent, each counted once.", tally.num_uplinks)
    yield _NAMES.counter("repeats", "Drafts sent again.", tally.num_resent)
    yield _NAMES.counter("tested_tokens", "Draft tokens that were accepted or rejected.", tally.num_tested)
    yield _NAMES.counter("accepted_tokens", "Draft tokens that were accepted.", tally.num_accepted)
    yield _NAMES.counter("skipped_tokens", "Final tokens that were never verified.", tally.num_skipped)
    yield _NAMES.counter("measured_tokens", "Skipped tokens whose risk is known.", tally.num_measured)
    yield _NAMES.counter("measured_risk", "Sum of their rejection probabilities.", tally.measured_risk_sum)
    yield _NAMES.counter("audits", "Drafts that measured what was skipped last.", tally.num_audits)
    yield _NAMES.counters("generations", "Ended generations by outcome.", "outcome", totals.num_generations)


def _answers(totals: Totals) -> Iterator[Metric]:
    refusals = {reason.name.lower(): count for reason, count in totals.num_refusals.items()}
    errors = {"unreadable_answer": totals.num_unreadable, "ignored_answer": totals.tally.num_ignored}
    yield _NAMES.counters("refusals", "Refusals received, by reason.", "reason", refusals)
    yield _NAMES.counters("errors", "Answers not understood, or late and repeated.", "kind", errors)
    if totals.round_trip is not None:
        yield _NAMES.gauge("round_trip_seconds", "Smoothed time from draft to correction.", totals.round_trip)
