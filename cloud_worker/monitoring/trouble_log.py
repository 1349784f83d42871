"""Troubles are counted every time and logged now and then, so that a flood of them does not flood the log."""

import logging

from cloud_worker.monitoring.tally import Trouble, WorkerTally

_log = logging.getLogger(__name__)


def count_trouble(tally: WorkerTally, trouble: Trouble, detail: str, what: str = "refused a message") -> None:
    """Count it, and log the 1st, 2nd, 4th, 8th ... of a kind."""
    tally.num_troubles[trouble] += 1
    count = tally.num_troubles[trouble]
    if count & (count - 1) == 0:
        _log.warning("%s: %s; %d in all", what, detail, count)
