"""From what the broker hands over to what the scheduler is told: topic, rate, codec, in this order.

Law 5: the cheap checks come first. What comes too fast or cannot be read is counted and touches no session.
"""

import logging
import time
from collections.abc import Sequence

from cloud_worker.monitoring.tally import Trouble, WorkerTally
from cloud_worker.monitoring.trouble_log import count_trouble
from cloud_worker.scheduling.device_rates import Admission, DeviceRates
from cloud_worker.scheduling.scheduler import Answer, Scheduler, SessionKey
from common.link import Received
from common.process.log import about
from common.protocol.codec import CodecError, decode_to_worker
from common.protocol.messages import Draft, Refusal, ToDevice, ToWorker
from common.protocol.summary import summarise
from common.protocol.topics import Topics, Uplink

_log = logging.getLogger(__name__)


class Intake:
    """Reads messages for one worker."""

    def __init__(
        self, worker: str, topics: Topics, rates: DeviceRates, scheduler: Scheduler, tally: WorkerTally
    ) -> None:
        self._worker = worker
        self._topics = topics
        self._rates = rates
        self._scheduler = scheduler
        self._tally = tally

    def receive(self, received: Received, now: float) -> Sequence[Answer]:
        """Take a message in at `now` (seconds); returns what can be answered at once."""
        try:
            uplink = self._topics.parse_uplink(received.topic)
        except ValueError as error:
            count_trouble(self._tally, Trouble.TOPIC, str(error))
            return ()
        self._tally.num_uplinks[uplink.way] += 1
        with about(device=uplink.device, session=uplink.session):
            return self._read(uplink, received.payload, now)

    def _read(self, uplink: Uplink, payload: bytes, now: float) -> Sequence[Answer]:
        key = SessionKey(uplink.device, uplink.session)
        admission = self._rates.admit(key.device, len(payload), now)
        if admission is not Admission.TAKE:
            count_trouble(self._tally, Trouble.RATE, "its device sends too many")
        if admission is Admission.DROP:
            return ()
        began = time.thread_time()
        try:
            message = decode_to_worker(payload)
        except CodecError as error:
            count_trouble(self._tally, Trouble.PAYLOAD, str(error))
            return [Answer(key, Refusal(error.n, error.reason, self._worker, str(error)))]
        finally:
            self._rates.charge(key.device, time.thread_time() - began)
        note(key, message)
        if admission is Admission.REFUSE and isinstance(message, Draft):
            return [Answer(key, self._scheduler.busy(message, "this device sends too many messages"))]
        return self._scheduler.receive(key, message, now)


def note(key: SessionKey, message: ToWorker | ToDevice) -> None:
    """Log a message of a session, on a path where every microsecond counts when nobody wants to know."""
    if _log.isEnabledFor(logging.DEBUG):
        with about(device=key.device, session=key.session):
            _log.debug("%s", summarise(message))
