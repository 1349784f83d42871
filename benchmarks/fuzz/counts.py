"""The counters of a worker under attack, read from its metrics page as an operator's Prometheus would."""

import time
import urllib.request
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

PREFIX = "hlm_worker_"


@dataclass(frozen=True, slots=True)
class Counts:
    """The messages since the worker started, and what became of them."""

    received: int
    uplinks: int
    bad_topics: int
    bad_payloads: int
    over_rate: int
    pushed_out: int
    failed_passes: int
    refusals: dict[str, int]
    passes: int

    @classmethod
    def read(cls, port: int) -> "Counts":
        """Scrape a worker on this machine."""
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
            families = text_string_to_metric_families(answer.read().decode())
        values: dict[str, dict[str, int]] = {}
        for family in families:
            for one in family.samples:
                label = next(iter(one.labels.values()), "")
                values.setdefault(one.name.removeprefix(PREFIX), {})[label] = int(one.value)
        errors = values["errors_total"]
        return cls(
            received=values["received_messages_total"][""],
            uplinks=sum(values["uplinks_total"].values()),
            bad_topics=errors["unreadable_topic"],
            bad_payloads=errors["unreadable_payload"],
            over_rate=errors["over_rate"],
            pushed_out=values["dropped_messages_total"]["receiving"],
            failed_passes=errors["failed_pass"],
            refusals=values["refusals_total"],
            passes=values["compute_seconds_count"][""],
        )

    @classmethod
    def settled(cls, port: int) -> "Counts":
        """Scrape until no message waits to be read, for ten seconds at most."""
        end = time.monotonic() + 10
        while (counts := cls.read(port)).unaccounted and time.monotonic() < end:
            time.sleep(0.2)
        return counts

    @property
    def unaccounted(self) -> int:
        """Messages that arrived but are not counted; this includes those that wait to be read."""
        return self.received - self.uplinks - self.bad_topics - self.pushed_out

    def __str__(self) -> str:
        refused = ", ".join(f"{number:,} {reason}" for reason, number in self.refusals.items() if number)
        return (
            f"  worker received {self.received:,} (including the well-behaved agent's)\n"
            f"  = {self.uplinks:,} on readable topics + {self.bad_topics:,} on others "
            f"+ {self.pushed_out:,} pushed out unread\n"
            f"  on readable topics: {self.bad_payloads:,} unreadable payloads, "
            f"{self.over_rate:,} over the rate; {self.passes:,} forward passes, {self.failed_passes} failed\n"
            f"  refusals sent: {refused}"
        )
