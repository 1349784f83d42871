"""What a simulated device has in flight: sends, waits for answers, asks again. Virtual time.

Law: deadlines are those of `edge_agent.session.round_trip`; only the oldest draft is asked again with
the whole context, the others follow its answer, as in `edge_agent.session.send_window`.
"""

from collections import deque
from dataclasses import dataclass, fields
from typing import Any

import simpy

from edge_agent.session.block_length import BlockLength
from edge_agent.session.round_trip import RoundTrip
from edge_agent.session.settings import SessionSettings
from evaluation.fleet.traces import SchemeTraces
from evaluation.fleet.world.pool import Pool
from evaluation.fleet.world.worker import Uplink, Verdict, Worker

_DEFAULTS: dict[str, Any] = {field.name: field.default for field in fields(SessionSettings)}
CLOUD_TIMEOUT: float = _DEFAULTS["cloud_timeout"]
LEAST: float = _DEFAULTS["min_timeout"]
NEVER = float("inf")


@dataclass(slots=True)
class InFlight:
    """A draft on its way; `whole_tokens` is what a worker must read that has nothing of the session."""

    uplink: Uplink
    num_bytes: float
    whole_tokens: int
    num_tested: int
    num_accepted: int
    awaits_worker: bool = False
    num_tries: int = 0
    first_sent_at: float = 0.0
    sent_at: float = 0.0
    deadline: float = 0.0
    num_received: int = 0  # of a stream


class Sending:
    """One session's drafts in flight; the worker answers through `answer`, `block_length` learns from it.

    `has_failed` once no worker has answered for the cloud timeout; then nothing more is sent.
    """

    def __init__(self, pool: Pool, scheme: SchemeTraces, block_length: BlockLength) -> None:
        self.next_n = self.epoch = 0
        self.has_failed = False
        self.in_flight: deque[InFlight] = deque()
        self.round_trip = RoundTrip(_DEFAULTS["first_timeout"], LEAST, _DEFAULTS["max_timeout"])
        self.key = pool.new_key()
        self._pool, self._env, self._scheme = pool, pool.env, scheme
        self._broker = pool.pick_broker()
        self._block_length = block_length
        self._worker: Worker | None = None
        self._news: simpy.Event | None = None
        self._answered_at = pool.env.now
        self._reminder_at = NEVER

    def launch(self, record: InFlight) -> None:
        """Send a draft for the first time, or keep it until the worker is known."""
        self.next_n += 1
        record.first_sent_at = self._env.now
        self.in_flight.append(record)
        if self._env.now >= self._pool.gauge.begins:
            self._pool.gauge.num_uplinks += 1
        if self._worker is not None or len(self.in_flight) == 1:
            self._send(record)
        else:
            record.awaits_worker = True

    def changed(self) -> simpy.Event:
        """Happens when an answer has come or all is lost."""
        self._news = self._env.event()
        return self._news

    def close(self) -> None:
        """Tell the worker that the session is over."""
        if self._worker is not None:
            self._pool.up(
                self._broker, self._scheme.draft_bytes, self._worker, lambda worker: worker.close(self)
            )

    def _send(self, record: InFlight, *, whole: bool = False) -> None:
        """To the worker that is known, or with the whole context to whichever takes it."""
        whole = whole or self._worker is None
        record.awaits_worker = False
        record.num_tries += 1
        record.sent_at = now = self._env.now
        record.deadline = now + self.round_trip.timeout(record.num_tries, whole_context=whole)
        if record.num_tries > 1 and now >= self._pool.gauge.begins:
            self._pool.gauge.num_repeats += 1
        self._remind()
        scheme, uplink = self._scheme, record.uplink
        size = record.num_bytes + (scheme.open_bytes if whole else scheme.draft_bytes)
        if whole:
            size += scheme.context_bytes * record.whole_tokens
            num_tokens = record.whole_tokens + uplink.num_tokens
            bonus = uplink.bonus - record.num_received if uplink.bonus else 0
            uplink = Uplink(uplink.n, self.epoch, num_tokens, uplink.rejects, opens=True, bonus=bonus)
        self._pool.up(self._broker, size, self._worker, lambda worker: worker.receive(self, uplink))

    def _remind(self) -> None:
        """See that the oldest draft's deadline is looked at in time; one reminder a session is under way."""
        if not self.in_flight or self.has_failed:
            return
        due = max(self.in_flight[0].deadline, self._env.now)
        if due < self._reminder_at:
            self._reminder_at = due
            self._pool.remind(due, self._reminded)

    def _reminded(self) -> None:
        self._reminder_at = NEVER
        if self.in_flight and self.in_flight[0].deadline <= self._env.now:
            self._overdue(self.in_flight[0])
        self._remind()

    def _overdue(self, record: InFlight) -> None:
        """The oldest draft goes to whichever worker takes it; the others follow its answer."""
        if self._env.now - max(record.first_sent_at, self._answered_at) >= CLOUD_TIMEOUT:
            self.has_failed = True
            self._tell()
            return
        self._worker = None
        for later in list(self.in_flight)[1:]:
            later.awaits_worker = True
        self._send(record)

    # -- answers ------------------------------------------------------------------------------------

    def answer(self, worker: Worker, n: int, verdict: Verdict, compute: float) -> None:
        """The worker's side of a message down."""
        size = self._scheme.correction_bytes
        self._pool.down(self._broker, size, lambda: self._receive(worker, n, verdict, compute))

    def _receive(self, worker: Worker, n: int, verdict: Verdict, compute: float) -> None:
        record = next((one for one in self.in_flight if one.uplink.n == n), None)
        if record is None or self.has_failed:
            return
        if verdict is Verdict.CORRECTION:
            self._corrected(record, worker, compute)
        elif record is self.in_flight[0]:
            self._refused(record, worker, verdict)

    def _refused(self, record: InFlight, worker: Worker, verdict: Verdict) -> None:
        if verdict is Verdict.BUSY:
            self._pool.gauge.num_busy += self._env.now >= self._pool.gauge.begins
            self._worker = None
            record.deadline = self._env.now + max(worker.retry_after, LEAST)
            self._remind()
        else:
            self._worker = worker
            self._send(record, whole=True)

    def _corrected(self, record: InFlight, worker: Worker, compute: float) -> None:
        now = self._env.now
        if record.first_sent_at >= self._pool.gauge.begins:
            since = record.sent_at if record.num_received else record.first_sent_at
            self._pool.gauge.latencies.append(now - since)
        if record.num_tries == 1 and not record.num_received:
            self.round_trip.observe(now - record.sent_at)
        self._worker, self._answered_at = worker, now
        self._block_length.verified(compute, record.num_tested, record.num_accepted)
        if record.uplink.bonus and record.num_received + 1 < record.uplink.bonus:
            record.num_received += 1
            record.sent_at, record.deadline = now, now + self.round_trip.timeout(1, whole_context=False)
        else:
            while self.in_flight.popleft() is not record:
                pass
        if record.uplink.rejects:
            self.in_flight.clear()
        for later in self.in_flight:
            if later.awaits_worker:
                self._send(later)
        self._remind()
        self._tell()

    def _tell(self) -> None:
        if self._news is not None and not self._news.triggered:
            self._news.succeed()
