"""Takes messages from the broker to the scheduler: topic, rate and codec are checked in this order.

Law 5: cheap checks come first. A message that arrives too fast or cannot be read is counted and reaches no
session. Each message is charged to its device, also if it is dropped.
"""

import logging
import time
from collections.abc import Callable, Sequence

from cloud_worker.grammars import Compiling
from cloud_worker.monitoring.error_log import count_error
from cloud_worker.monitoring.tally import ErrorKind, WorkerTally
from cloud_worker.scheduling.costs import CostKind, Costs
from cloud_worker.scheduling.device_rates import Admission, DeviceRates
from cloud_worker.scheduling.scheduler import Scheduler, SessionKey
from cloud_worker.scheduling.task import Answer
from cloud_worker.session.admission import Target
from common.link import Received
from common.process.log import about
from common.protocol.codec import CodecError, decode_to_worker
from common.protocol.messages import Close, Draft, Reason, ToDevice, ToWorker
from common.protocol.summary import summarise
from common.protocol.topics import Topics, Uplink

LINK_SECONDS = 4e-5  # of the event loop, until a message is here: socket, packet, acknowledgement

_log = logging.getLogger(__name__)


class Intake:
    """Reads the messages of one worker."""

    def __init__(
        self,
        target: Target,
        topics: Topics,
        rates: DeviceRates,
        scheduler: Scheduler,
        tally: WorkerTally,
        costs: Costs,
        compiling: Compiling | None = None,
        later: Callable[[Sequence[Answer]], object] = lambda _: None,
    ) -> None:
        """`later` sends the answers to what had to wait for its grammar."""
        self._target = target
        self._topics = topics
        self._rates = rates
        self._scheduler = scheduler
        self._tally = tally
        self._costs = costs
        self._compiling = compiling
        self._later = later

    def receive(self, received: Received, now: float) -> Sequence[Answer]:
        """Take in a message at `now` (seconds); returns the answers that need no forward pass."""
        try:
            uplink = self._topics.parse_uplink(received.topic)
        except ValueError as error:
            count_error(self._tally, ErrorKind.TOPIC, str(error))
            return ()
        self._tally.num_uplinks[uplink.way] += 1
        began, entered = time.thread_time(), time.perf_counter()
        self._costs.hear(uplink.device, now)
        was_waiting = self._scheduler.waits(uplink.device)
        try:
            with about(device=uplink.device, session=uplink.session):
                return self._read(uplink, received.payload, now)
        finally:
            seconds = time.thread_time() - began
            self._costs.observe_loop(seconds, time.perf_counter() - entered)
            is_single = not was_waiting and self._scheduler.waits(uplink.device)
            seconds += LINK_SECONDS
            self._costs.charge(uplink.device, CostKind.READING, seconds, now, is_single=is_single)

    def _read(self, uplink: Uplink, payload: bytes, now: float) -> Sequence[Answer]:
        key = SessionKey(uplink.device, uplink.session)
        is_shed = self._costs.sheds(key.device, now)
        admission = self._rates.admit(key.device, len(payload), now, is_shed=is_shed)
        if admission is not Admission.TAKE:
            count_error(self._tally, ErrorKind.RATE, "its device sends too many")
            self._costs.charge_unserved(key.device, now)
        if admission is Admission.DROP:
            return ()
        began = time.thread_time()
        try:
            message = decode_to_worker(payload)
        except CodecError as error:
            count_error(self._tally, ErrorKind.PAYLOAD, str(error))
            return [Answer(key, self._target.refuse_unreadable(error))]
        finally:
            self._rates.charge(key.device, time.thread_time() - began)
        note(key, message)
        is_too_fast = admission is Admission.REFUSE
        if self._compiling is not None and not is_too_fast:
            if isinstance(message, Close):
                self._compiling.drop(key)
            elif self._compiling.is_needed(message):
                return self._compile(self._compiling, key, message)
        return self._scheduler.receive(key, message, now, is_too_fast=is_too_fast)

    def _compile(self, compiling: Compiling, key: SessionKey, draft: Draft) -> Sequence[Answer]:
        if compiling.waits(key):
            return ()  # the same opening, sent again
        if not compiling.has_room(key.device):
            detail = "too many grammars wait to be compiled"
            return [Answer(key, self._target.refuse(draft, Reason.BUSY, detail, retry_after=1.0))]

        def passed_on() -> None:
            self._later(self._scheduler.receive(key, draft, time.monotonic()))

        compiling.begin(key, draft, passed_on)
        return ()


def note(key: SessionKey, message: ToWorker | ToDevice) -> None:
    """Log a session's message at level debug; costs next to nothing at other levels."""
    if _log.isEnabledFor(logging.DEBUG):
        with about(device=key.device, session=key.session):
            _log.debug("%s", summarise(message))
