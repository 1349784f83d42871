"""What both ends serve as metrics, read as Prometheus reads it."""

from prometheus_client.parser import text_string_to_metric_families

from cloud_worker.monitoring.metrics import Metrics as WorkerMetrics
from cloud_worker.monitoring.snapshot import Snapshot
from cloud_worker.monitoring.tally import WorkerTally
from common.link import LinkStatistics
from common.link.values import Certificate
from common.protocol.worker_status import State
from edge_agent.monitoring.metrics import Metrics as EdgeMetrics
from edge_agent.monitoring.metrics import Snapshot as EdgeSnapshot
from edge_agent.monitoring.totals import Totals

Labels = dict[str, set[str]]  # label -> its values


def exposed() -> dict[str, Labels]:
    """Each metric of a worker and an agent, with its labels."""
    link = LinkStatistics(certificates=(Certificate("broker", 2e9),))
    snapshot = Snapshot(State.ONLINE, WorkerTally(), link, True, 0, 0, 0, 0, 0, 0.0)
    pages = [
        WorkerMetrics(lambda: snapshot, {"worker": "w"}).page(),
        EdgeMetrics(lambda: EdgeSnapshot(Totals(_round_trip=0.1), 0.08, link, True), {"device": "d"}).page(),
    ]
    found: dict[str, Labels] = {}
    for page in pages:
        for family in text_string_to_metric_families(page.body.decode()):
            for sample in family.samples:
                labels = found.setdefault(sample.name, {})
                for label, value in sample.labels.items():
                    labels.setdefault(label, set()).add(value)
    return found
