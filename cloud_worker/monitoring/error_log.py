"""Counts every error and logs a few, so that a flood of errors does not flood the log."""

import logging

from cloud_worker.monitoring.tally import ErrorKind, WorkerTally
from common.floods import is_logged

_log = logging.getLogger(__name__)


def count_error(tally: WorkerTally, kind: ErrorKind, detail: str, what: str = "refused a message") -> None:
    """Count an error, and log the 1st, 2nd, 4th, 8th ... of its kind."""
    tally.num_errors[kind] += 1
    count = tally.num_errors[kind]
    if is_logged(count):
        _log.warning("%s: %s; %d in all", what, detail, count)
