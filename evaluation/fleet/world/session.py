"""One generation on a device, in virtual time: the agent's own session, driven along a trace.

Law: it does what an agent does, step by step. Only the models are replaced: the trace says what the gate
decided about each token, and which tokens the target rejected. What is drafted in vain after a rejection,
before the device knows of it, is taken to be like the text that follows.
"""

from dataclasses import dataclass
from functools import cache

from cloud_worker.scheduling.fair_queue import SessionKey
from common.protocol.messages import (
    Correction,
    Draft,
    DraftToken,
    Opening,
    Reason,
    Refusal,
    ToDevice,
)
from common.sampling.distribution import Sampling
from edge_agent.assembly import WINDOW_OF_FIXED_BLOCKS
from edge_agent.policy.policy import Decision, Proposal
from edge_agent.session.events import Drafted, Event
from edge_agent.session.send_window import Outgoing
from edge_agent.session.session import EdgeSession
from edge_agent.session.settings import SessionSettings
from edge_agent.session.step import advance
from evaluation.fleet.traces import ASKED, HELD, SKIPPED, SchemeTraces, Trace
from evaluation.fleet.world.pool import Pool
from evaluation.fleet.world.worker import Process, Uplink, Verdict, Worker

PROMPTED, ACCEPTED, REJECTED, CORRECTED = range(4)  # all the tokens that there are
OPENING = Opening(b"trace", vocab_size=4, sampling=Sampling(), seed=0)
DECISIONS = {SKIPPED: Decision.SKIP, HELD: Decision.HOLD, ASKED: Decision.UPLINK}
NEVER = float("inf")


@dataclass(frozen=True, slots=True)
class DeviceTime:
    """Seconds of a draft token on the device, and the block length (None: as the agent chooses it)."""

    draft_seconds: float
    block_length: int | None = None
    window: int | None = None


@cache
def _proposal(step: str, uncertainty: float) -> Proposal:
    """What the draft model and the gate made of one letter of a trace."""
    token = DraftToken(REJECTED if step.isupper() else ACCEPTED)
    return Proposal(token, 1.0, uncertainty, DECISIONS[step.lower()])


class Session:
    """`run` is its process; a worker answers through `answer`."""

    def __init__(self, pool: Pool, scheme: SchemeTraces, trace: Trace, time: DeviceTime) -> None:
        self.key: SessionKey = pool.new_key()
        self._pool, self._env = pool, pool.env
        self._scheme, self._trace, self._time = scheme, trace, time
        self._broker = pool.pick_broker()
        window = time.window or scheme.window
        if window is None and time.block_length is not None:
            window = WINDOW_OF_FIXED_BLOCKS
        settings = SessionSettings(
            OPENING,
            stop_ids=frozenset(),
            max_tokens=len(trace.steps),
            max_positions=trace.num_prompt + len(trace.steps),
            drafts=scheme.drafts,
            window=window,
            block_length=time.block_length,
            flushes=window is not None,
        )
        self._edge = EdgeSession([PROMPTED] * trace.num_prompt, settings)
        self._workers: dict[str, Worker] = {}  # those that have answered
        self._sent: dict[int, tuple[Draft, float]] = {}  # what is to be answered, and since when
        self._num_answers: dict[int, int] = {}  # of each draft: a stream has many
        self._reminder_at = NEVER
        self._began = pool.env.now
        self._ended = pool.env.event()

    def run(self) -> Process:
        """From the prompt to the last token."""
        self._pool.num_active += 1
        self._advance()
        if not self._edge.finished:
            yield self._ended
        self._finish()

    def _advance(self, *events: Event) -> None:
        if self._edge.finished:
            return
        step = advance(self._edge, self._env.now, events)
        tokens = self._edge.begin_draft()
        if tokens is not None:
            self._begin_draft(len(tokens) - self._trace.num_prompt)
        for outgoing in step.messages:
            self._send(outgoing)
        if step.finished:
            self._ended.succeed()
        elif step.deadline is not None:
            self._remind(step.deadline)

    def _begin_draft(self, index: int) -> None:
        uncertainty = self._trace.uncertainty[index] if self._trace.uncertainty else 0.0
        drafted = Drafted(_proposal(self._trace.steps[index], uncertainty), self._time.draft_seconds)
        self._pool.after(self._time.draft_seconds, lambda: self._advance(drafted))

    def _remind(self, deadline: float) -> None:
        """See that the deadline is looked at in time; the earliest reminder of a session is enough."""
        due = max(deadline, self._env.now)
        if due < self._reminder_at:
            self._reminder_at = due
            self._pool.remind(due, self._reminded)

    def _reminded(self) -> None:
        self._reminder_at = NEVER
        self._advance()

    # -- messages -----------------------------------------------------------------------------------

    def _send(self, outgoing: Outgoing) -> None:
        worker = self._workers[outgoing.worker] if outgoing.worker is not None else None
        if isinstance(outgoing.message, Draft):
            self._send_draft(outgoing.message, worker)
        else:
            self._pool.up(self._broker, self._scheme.draft_bytes, worker, lambda one: one.close(self))

    def _send_draft(self, draft: Draft, worker: Worker | None) -> None:
        gauge = self._pool.gauge
        is_repeat = draft.n in self._sent
        if self._env.now >= gauge.begins:
            gauge.num_repeats += is_repeat
            gauge.num_uplinks += not is_repeat
        _, since = self._sent.get(draft.n, (draft, self._env.now))
        self._sent[draft.n] = draft, since
        opens = draft.opening is not None
        size = self._scheme.open_bytes if opens else self._scheme.draft_bytes
        size += self._scheme.context_bytes * len(draft.context) + self._scheme.token_bytes * len(draft.block)
        rejects = any(one.token == REJECTED for one in draft.block)
        num_tokens = len(draft.context) + len(draft.block)
        uplink = Uplink(draft.n, draft.epoch, num_tokens, rejects, opens=opens, bonus=draft.bonus)
        self._pool.up(self._broker, size, worker, lambda one: one.receive(self, uplink))

    def answer(self, worker: Worker, n: int, verdict: Verdict, compute: float) -> None:
        """The worker's side of a message down."""
        size = self._scheme.correction_bytes
        self._pool.down(self._broker, size, lambda: self._receive(worker, n, verdict, compute))

    def _receive(self, worker: Worker, n: int, verdict: Verdict, compute: float) -> None:
        name = str(worker.name)
        self._workers[name] = worker
        if verdict is Verdict.CORRECTION:
            self._corrected(self._correction(name, n, compute))
            return
        if verdict is Verdict.BUSY:
            self._pool.gauge.num_busy += self._env.now >= self._pool.gauge.begins
        reason = Reason.BUSY if verdict is Verdict.BUSY else Reason.NEED_CONTEXT
        self._advance(Refusal(n, reason, name, retry_after=worker.retry_after))

    def _correction(self, worker: str, n: int, compute: float) -> Correction:
        draft, _ = self._sent[n]
        index = self._num_answers[n] = self._num_answers.get(n, -1) + 1
        tokens = [one.token for one in draft.block]
        num_accepted = tokens.index(REJECTED) if REJECTED in tokens else len(tokens)
        token = CORRECTED if draft.bonus or num_accepted < len(tokens) else None
        return Correction(n, num_accepted, token, worker, index, compute_ms=1000 * compute)

    def _corrected(self, message: ToDevice) -> None:
        """Take it in, and count its latency unless it came too late to be of use."""
        assert isinstance(message, Correction)
        gauge, now, num_ignored = self._pool.gauge, self._env.now, self._edge.tally.num_ignored
        draft, since = self._sent[message.n]
        self._advance(message)
        if self._edge.tally.num_ignored == num_ignored:
            self._sent[message.n] = draft, now
            if since >= gauge.begins:
                gauge.latencies.append(now - since)

    def _finish(self) -> None:
        gauge, now, has_failed = self._pool.gauge, self._env.now, self._edge.failure is not None
        self._pool.num_active -= 1
        if now >= gauge.begins:
            gauge.num_failed += has_failed
            if not has_failed:
                gauge.num_tokens += len(self._trace.steps)
                gauge.session_seconds.append(now - self._began)
