"""EdgeSession: the owner of the sequence. Pure: time and messages come in, drafts and tokens go out.

Law 3: the text is a function of the prompt, the seed and the models. So nothing here depends on when an
answer comes: a draft that is asked again keeps its number and its block, a late or repeated answer is
ignored, and a rejection rewinds to where the target disagreed.

    tokens  | prompt | final ......... | in flight: [context|block] [context|block] | held or skipped |
                                       ^ num_final                                  ^ synced

`tokens` up to `synced` are what the worker holds once every draft in flight is accepted.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from common.messages import (
    MAX_CONTEXT_PROBS,
    Close,
    Correction,
    Draft,
    DraftToken,
    Reason,
    Refusal,
    ToDevice,
)
from edge_agent.block_length import BlockLength
from edge_agent.cloud_watch import CloudWatch
from edge_agent.in_flight import InFlight
from edge_agent.policy import Decision, Proposal
from edge_agent.refusals import explain
from edge_agent.round_trip import RoundTrip
from edge_agent.session_settings import OnCloudLoss, SessionSettings
from edge_agent.tally import Tally
from edge_agent.transcript import Fate, FinalToken, Transcript

MAX_REPAIRS = 2  # what the worker says it lacks, then everything


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message and the worker it goes to; None is whichever worker takes it (the `open` topic)."""

    message: Draft | Close
    worker: str | None


class EdgeSession:
    """One generation. Call `start`, then feed `propose`, `receive` and `tick`; collect what they leave.

    After each call take `take_outgoing()` and `take_final()`; call `tick` when `deadline` has passed; stop
    when `finished`. `failure` then says why it ended early, or is None.
    """

    def __init__(self, prompt: Sequence[int], settings: SessionSettings) -> None:
        """`prompt` holds at least one token; it must leave room for one more within `max_positions`."""
        if not prompt:
            raise ValueError("the prompt has no tokens")
        self.epoch = 0
        self.worker: str | None = None
        self.tally = Tally()
        self.round_trip = RoundTrip(settings.first_timeout, settings.min_timeout, settings.max_timeout)
        self.block_length = BlockLength(settings.window, settings.block_length)
        self.cloud = CloudWatch(settings.on_cloud_loss, settings.cloud_timeout)
        self.failure: str | None = None
        self.finish_reason: str | None = None
        self._settings = settings
        self._transcript = Transcript(prompt)
        self._num_final = len(prompt)
        self._synced = 0
        self._next_n = 0
        self._held: list[DraftToken] = []
        self._in_flight: deque[InFlight] = deque()
        self._num_repairs = 0
        self._outgoing: list[Outgoing] = []
        self._final: list[FinalToken] = []

    # -- what the shell asks --------------------------------------------------------------------------

    @property
    def tokens(self) -> Sequence[int]:
        """The whole sequence as assumed now: what the draft model should continue."""
        return self._transcript.tokens

    @property
    def finished(self) -> bool:
        """True when no further token will come."""
        return self.finish_reason is not None

    @property
    def wants_draft(self) -> bool:
        """Whether the draft model should run on `tokens` now."""
        return (
            self._settings.drafts
            and not self.finished
            and not self._tail_ended
            and len(self._in_flight) < self._settings.window
        )

    @property
    def deadline(self) -> float | None:
        """When `tick` is due; None when nothing is awaited."""
        if not self._in_flight:
            return None
        oldest = self._in_flight[0]
        return min(oldest.deadline, self.cloud.runs_out_at(oldest.first_sent_at))

    def take_outgoing(self) -> list[Outgoing]:
        """The messages to send, in order; each is given once."""
        taken, self._outgoing = self._outgoing, []
        return taken

    def take_final(self) -> list[FinalToken]:
        """The tokens that became final, in order; each is given once."""
        taken, self._final = self._final, []
        return taken

    # -- what happens -------------------------------------------------------------------------------

    def start(self, now: float) -> None:
        """Begin: the target model is asked to write when there is no drafting."""
        self.cloud.answered(now)
        if not self._settings.drafts:
            self._launch((), self._tokens_left, now)

    def propose(self, proposal: Proposal, now: float, seconds: float = 0.0) -> None:
        """Take in the draft model's next token, which took `seconds`; only while `wants_draft`."""
        self.block_length.drafted(seconds)
        fate = None
        if proposal.decision is Decision.SKIP:
            fate = Fate.LOCAL
        elif self.cloud.is_away(now):
            fate = Fate.UNVERIFIED
        else:
            self._held.append(proposal.draft)
        self._transcript.append(proposal.draft.token, fate, proposal.prob)
        is_full = self.block_length.is_full(len(self._held), self.round_trip.smoothed)
        if self._held and (is_full or self._tail_ended or proposal.decision is Decision.UPLINK):
            wants_bonus = self._settings.wants_bonus and not self._tail_ended
            block, self._held = tuple(self._held), []
            self._launch(block, int(wants_bonus), now)
        self._settle()

    def receive(self, message: ToDevice, now: float) -> None:
        """Take in a worker's answer. One that does not fit anything in flight is ignored."""
        if isinstance(message, Refusal) and message.n is None:
            self._worker_leaves(message, now)
            return
        record = next((record for record in self._in_flight if record.n == message.n), None)
        if record is None:
            self.tally.num_ignored += 1
        elif isinstance(message, Refusal):
            self._refused(record, message, now)
        elif not self._fits(record, message):
            self.tally.num_ignored += 1
        else:
            self._corrected(record, message, now)
        self._settle()

    def tick(self, now: float) -> None:
        """A deadline has passed: ask again, whoever answers, or follow the policy for a lost cloud."""
        if self.deadline is None or now < self.deadline:
            return
        if now >= self.cloud.runs_out_at(self._in_flight[0].first_sent_at):
            self._lose_cloud(f"no worker answered for {self._settings.cloud_timeout:g} s", now)
        else:
            self._ask_anyone(now)
        self._settle()

    def no_worker(self, now: float) -> None:
        """The broker says that nobody listens on the `open` topic."""
        if self._in_flight and self.cloud.policy is OnCloudLoss.LOCAL:
            self._lose_cloud("nobody serves the pool", now)
            self._settle()
        elif self._in_flight:
            record = self._in_flight[0]
            record.deadline = min(record.deadline, now + self._settings.min_timeout)

    def disconnected(self, now: float) -> None:
        """The link to the broker is down: nothing can be asked until `reconnected`."""
        if self.cloud.policy is OnCloudLoss.LOCAL and not self.finished:
            self._lose_cloud("the broker cannot be reached", now, until_told=True)
            self._settle()

    def reconnected(self, now: float) -> None:
        """The link is up again; what was in flight may be lost, so ask at once."""
        self.cloud.find()
        if self._in_flight:
            self._in_flight[0].deadline = now

    def stop(self) -> None:
        """The caller has all it wants (a stop string): nothing more is emitted."""
        self._finish("stop")

    def fail(self, reason: str) -> None:
        """Nothing more can come: `reason` is a sentence for the user."""
        self.failure = reason
        self._finish("error")

    # -- sending ------------------------------------------------------------------------------------

    def _launch(self, block: tuple[DraftToken, ...], bonus: int, now: float) -> None:
        start = len(self.tokens) - len(block)
        num_measured = MAX_CONTEXT_PROBS if self._settings.measures_risk else 0
        num_skipped = start - max(self._synced, self._transcript.num_prompt)
        record = InFlight(
            n=self._next_n,
            epoch=self.epoch,
            base=self._synced,
            start=start,
            block=block,
            bonus=bonus,
            num_context_probs=min(max(0, num_skipped), num_measured),
        )
        self._next_n += 1
        self._synced = len(self.tokens)
        self._in_flight.append(record)
        if self.worker is not None or len(self._in_flight) == 1:
            self._send(record, now)
        else:
            record.awaits_worker = True

    def _send(self, record: InFlight, now: float, *, whole: bool = False) -> None:
        whole = whole or self.worker is None or record.base == 0
        record.awaits_worker = False
        record.num_tries += 1
        record.sent_at = now
        if record.num_tries == 1:
            record.first_sent_at = now
            self.tally.num_uplinks += 1
        else:
            self.tally.num_resent += 1
        record.deadline = now + self.round_trip.timeout(record.num_tries, whole_context=whole)
        message = record.message(self.tokens, self._settings.opening, whole=whole)
        self._outgoing.append(Outgoing(message, self.worker))

    def _send_waiting(self, now: float) -> None:
        """Send what waited for the worker to be known."""
        for record in self._in_flight:
            if record.awaits_worker:
                self._send(record, now)

    def _ask_anyone(self, now: float) -> None:
        """Give the oldest draft with the whole context to any worker; later ones follow its answer."""
        self.worker = None
        self._num_repairs = 0
        oldest, *later = self._in_flight
        if oldest.next_index > 0:  # a stream broke off: ask for the rest of it
            self._in_flight.clear()
            self._launch((), self._tokens_left, now)
            return
        for record in later:
            record.awaits_worker = True
        self._send(oldest, now)

    # -- answers ------------------------------------------------------------------------------------

    def _fits(self, record: InFlight, correction: Correction) -> bool:
        """Whether a correction can be meant for this draft; a faulty worker must not break the text."""
        vocab_size = self._settings.opening.vocab_size
        is_whole = correction.num_accepted == len(record.block)
        token_fits = correction.token is None or correction.token < vocab_size
        token_needed = not is_whole or record.bonus > 0
        return (
            correction.num_accepted <= len(record.block)
            and token_fits
            and (correction.token is not None) == token_needed
            and correction.index == record.next_index
        )

    def _corrected(self, record: InFlight, correction: Correction, now: float) -> None:
        if record.num_tries == 1 and record.next_index == 0:
            self.round_trip.observe(now - record.sent_at)
        self.worker = correction.worker
        self.cloud.answered(now)
        self._num_repairs = 0
        while self._in_flight[0] is not record:  # a worker that answered this one accepted those before
            earlier = self._in_flight.popleft()
            self._accept(earlier, len(earlier.block))
        if record.next_index == 0:
            self._measure(record, correction.context_codes)
            self._accept(record, correction.num_accepted)
            num_tested = min(len(record.block), correction.num_accepted + 1)
            self.block_length.verified(correction.compute_ms / 1000, num_tested, correction.num_accepted)
        if correction.num_accepted < len(record.block):
            self._reject(record, correction)
        elif correction.token is not None:
            self._append_bonus(record, correction.token, now)
        else:
            self._in_flight.popleft()
        self._send_waiting(now)

    def _accept(self, record: InFlight, count: int) -> None:
        self._transcript.mark(record.start, count, Fate.VERIFIED)
        self.tally.num_accepted += count
        self.tally.num_tested += count

    def _reject(self, record: InFlight, correction: Correction) -> None:
        """Rewind to the rejected token and put the target's in its place."""
        self._transcript.rewind(record.start + correction.num_accepted)
        self._in_flight.clear()
        self._held.clear()
        self._append(correction.token, Fate.CORRECTED)
        self.epoch += 1
        self.tally.num_tested += 1
        self.tally.num_rejections += 1

    def _append_bonus(self, record: InFlight, token: int, now: float) -> None:
        self._append(token, Fate.TARGET)
        record.next_index += 1
        if record.next_index >= record.bonus:
            self._in_flight.popleft()
        record.deadline = now + self.round_trip.timeout(1, whole_context=False)

    def _append(self, token: int | None, fate: Fate) -> None:
        assert token is not None  # _fits has seen to it
        self._transcript.append(token, fate)
        self._synced = len(self.tokens)

    def _measure(self, record: InFlight, codes: bytes) -> None:
        if codes and len(codes) == record.num_context_probs:
            start = record.start - record.num_context_probs
            self.tally.measure(self._transcript.draft_probs(start, record.start), codes)

    def _refused(self, record: InFlight, refusal: Refusal, now: float) -> None:
        oldest = self._in_flight[0]
        match refusal.reason:
            case Reason.NEED_CONTEXT if self._num_repairs and record is not oldest:
                pass  # sent before the repair
            case Reason.NEED_CONTEXT if self._num_repairs >= MAX_REPAIRS:
                self.tally.num_ignored += 1  # it has all it can get: the deadline will bring another worker
            case Reason.NEED_CONTEXT:
                self._repair(refusal, now)
            case Reason.BUSY:
                if record is oldest:
                    self.worker = None
                    record.deadline = now + max(refusal.retry_after, self._settings.min_timeout)
            case _:
                self.fail(explain(refusal))

    def _repair(self, refusal: Refusal, now: float) -> None:
        """Send again what the worker lacks: the drafts as they were, or the whole context."""
        oldest = self._in_flight[0]
        holds_base = 0 < oldest.base <= refusal.have and refusal.worker == self.worker
        self.worker = refusal.worker
        whole = not holds_base or self._num_repairs > 0
        self._num_repairs += 1
        for record in self._in_flight:
            self._send(record, now, whole=whole and record is oldest)

    def _worker_leaves(self, refusal: Refusal, now: float) -> None:
        """A worker that stops says so (busy, for no draft in particular): ask another one at once."""
        if refusal.reason is not Reason.BUSY or refusal.worker != self.worker:
            self.tally.num_ignored += 1
            return
        self.worker = None
        if self._in_flight:
            self._in_flight[0].deadline = now

    def _lose_cloud(self, reason: str, now: float, *, until_told: bool = False) -> None:
        """Fail, or settle for what the draft model says and try again later."""
        if self.cloud.policy is not OnCloudLoss.LOCAL or not self._settings.drafts:
            self.fail(reason)
            return
        self._transcript.mark_open(Fate.UNVERIFIED)
        self._in_flight.clear()
        self._held.clear()
        self._synced = len(self.tokens)
        self.epoch += 1
        self.worker = None
        self.cloud.lose(reason, now, until_told=until_told)

    # -- what is final, and the end ---------------------------------------------------------------------

    @property
    def _tokens_left(self) -> int:
        generated = self._settings.max_tokens - self._transcript.num_generated
        return min(generated, self._settings.max_positions - len(self.tokens))

    @property
    def _tail_ended(self) -> bool:
        """Whether the sequence, as assumed now, is at its end."""
        has_stopped = self._transcript.num_generated > 0 and self.tokens[-1] in self._settings.stop_ids
        return has_stopped or self._tokens_left <= 0

    def _settle(self) -> None:
        """Emit every token before the first that still awaits its verification; end at a stop token."""
        boundary = self._in_flight[0].start if self._in_flight else len(self.tokens) - len(self._held)
        if self._in_flight and self._in_flight[0].is_stream:
            boundary = len(self.tokens)
        while self._num_final < boundary and not self.finished:
            final = self._transcript.final(self._num_final)
            self._num_final += 1
            self._final.append(final)
            self.tally.num_by_fate[final.fate] += 1
            if final.token in self._settings.stop_ids:
                self._finish("stop")
            elif self._num_final == len(self.tokens) and self._tokens_left <= 0:
                self._finish("length")

    def _finish(self, reason: str) -> None:
        if self.finished:
            return
        self.finish_reason = reason
        self._transcript.rewind(self._num_final)
        self._in_flight.clear()
        self._held.clear()
        if self.worker is not None:
            self._outgoing.append(Outgoing(Close(), self.worker))
