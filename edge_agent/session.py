"""EdgeSession: the owner of the sequence. Pure: time and messages come in, drafts and tokens go out.

Law 3: the text is a function of the prompt, the seed and the models. So nothing here depends on when an
answer comes: a draft that is asked again keeps its number and its block, a late or repeated answer is
ignored, and a rejection rewinds to where the target disagreed.

    tokens  | prompt | final ......... | in flight: [context|block] [context|block] | held or skipped |
                                       ^ num_final
"""

from collections.abc import Sequence

from common.messages import MAX_CONTEXT_PROBS, Correction, DraftToken, Reason, Refusal, ToDevice
from edge_agent.block_length import BlockLength
from edge_agent.cloud_watch import CloudWatch
from edge_agent.in_flight import InFlight
from edge_agent.policy import Decision, Proposal
from edge_agent.refusals import explain
from edge_agent.round_trip import RoundTrip
from edge_agent.session_settings import OnCloudLoss, SessionSettings
from edge_agent.tally import Tally
from edge_agent.transcript import Fate, FinalToken, Transcript
from edge_agent.uplink import Outgoing, Uplink


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
        self.tally = Tally()
        self.round_trip = RoundTrip(settings.first_timeout, settings.min_timeout, settings.max_timeout)
        self.block_length = BlockLength(settings.window, settings.block_length)
        self.cloud = CloudWatch(settings.on_cloud_loss, settings.cloud_timeout)
        self.failure: str | None = None
        self.finish_reason: str | None = None
        self._settings = settings
        self._transcript = Transcript(prompt)
        self._uplink = Uplink(self._transcript, settings.opening, self.round_trip, self.tally)
        self._num_final = len(prompt)
        self._held: list[DraftToken] = []
        self._final: list[FinalToken] = []

    # -- what the shell asks --------------------------------------------------------------------------

    @property
    def tokens(self) -> Sequence[int]:
        """The whole sequence as assumed now: what the draft model should continue."""
        return self._transcript.tokens

    @property
    def worker(self) -> str | None:
        """The worker that holds the session; None while none has answered."""
        return self._uplink.worker

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
            and len(self._uplink) < self._settings.window
        )

    @property
    def deadline(self) -> float | None:
        """When `tick` is due; None when nothing is awaited."""
        oldest = self._uplink.oldest
        return min(oldest.deadline, self.cloud.runs_out_at(oldest.first_sent_at)) if oldest else None

    def take_outgoing(self) -> list[Outgoing]:
        """The messages to send, in order; each is given once."""
        return self._uplink.take_outgoing()

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
        record = self._uplink.find(message.n)
        if isinstance(message, Refusal):
            self._refused(record, message, now)
        elif record is None or not self._fits(record, message):
            self.tally.num_ignored += 1
        else:
            self._corrected(record, message, now)
        self._settle()

    def tick(self, now: float) -> None:
        """A deadline has passed: ask again, whoever answers, or follow the policy for a lost cloud."""
        oldest = self._uplink.oldest
        if oldest is None or self.deadline is None or now < self.deadline:
            return
        if now >= self.cloud.runs_out_at(oldest.first_sent_at):
            self._lose_cloud(f"no worker answered for {self._settings.cloud_timeout:g} s", now)
        elif oldest.next_index > 0:  # a stream broke off: ask for the rest of it
            self._uplink.clear()
            self._uplink.leave_worker(now)
            self._launch((), self._tokens_left, now)
        else:
            self._uplink.ask_anyone(now)
        self._settle()

    def no_worker(self, now: float) -> None:
        """The broker says that nobody listens on the `open` topic."""
        oldest = self._uplink.oldest
        if oldest is not None and self.cloud.policy is OnCloudLoss.LOCAL:
            self._lose_cloud("nobody serves the pool", now)
            self._settle()
        elif oldest is not None:
            oldest.deadline = min(oldest.deadline, now + self._settings.min_timeout)

    def disconnected(self, now: float) -> None:
        """The link to the broker is down: nothing can be asked until `reconnected`."""
        if self.cloud.policy is OnCloudLoss.LOCAL and not self.finished:
            self._lose_cloud("the broker cannot be reached", now, until_told=True)
            self._settle()

    def reconnected(self, now: float) -> None:
        """The link is up again; what was in flight may be lost, so ask at once."""
        self.cloud.find()
        if self._uplink.oldest is not None:
            self._uplink.oldest.deadline = now

    def stop(self) -> None:
        """The caller has all it wants (a stop string): nothing more is emitted."""
        self._finish("stop")

    def fail(self, reason: str) -> None:
        """Nothing more can come: `reason` is a sentence for the user."""
        self.failure = reason
        self._finish("error")

    # -- answers ------------------------------------------------------------------------------------

    def _launch(self, block: tuple[DraftToken, ...], bonus: int, now: float) -> None:
        start = len(self.tokens) - len(block)
        num_skipped = start - max(self._uplink.synced, self._transcript.num_prompt)
        num_measured = MAX_CONTEXT_PROBS if self._settings.measures_risk else 0
        num_context_probs = min(max(0, num_skipped), num_measured)
        self._uplink.launch(
            block, bonus=bonus, epoch=self.epoch, num_context_probs=num_context_probs, now=now
        )

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
        self._uplink.answered_by(correction.worker)
        self.cloud.answered(now)
        for earlier in self._uplink.take_before(record):
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
            self._uplink.settle_oldest()
        self._uplink.send_waiting(now)

    def _accept(self, record: InFlight, count: int) -> None:
        self._transcript.mark(record.start, count, Fate.VERIFIED)
        self.tally.num_accepted += count
        self.tally.num_tested += count

    def _reject(self, record: InFlight, correction: Correction) -> None:
        """Rewind to the rejected token and put the target's in its place."""
        self._transcript.rewind(record.start + correction.num_accepted)
        self._uplink.clear()
        self._held.clear()
        self._append(correction.token, Fate.CORRECTED)
        self.epoch += 1
        self.tally.num_tested += 1
        self.tally.num_rejections += 1

    def _append_bonus(self, record: InFlight, token: int, now: float) -> None:
        self._append(token, Fate.TARGET)
        record.next_index += 1
        record.deadline = now + self.round_trip.timeout(1, whole_context=False)
        if record.next_index >= record.bonus:
            self._uplink.settle_oldest()

    def _append(self, token: int | None, fate: Fate) -> None:
        assert token is not None  # _fits has seen to it
        self._transcript.append(token, fate)
        self._uplink.synced = len(self.tokens)

    def _measure(self, record: InFlight, codes: bytes) -> None:
        if codes and len(codes) == record.num_context_probs:
            start = record.start - record.num_context_probs
            self.tally.measure(self._transcript.draft_probs(start, record.start), codes)

    def _refused(self, record: InFlight | None, refusal: Refusal, now: float) -> None:
        match refusal.reason:
            case Reason.BUSY if refusal.n is None and refusal.worker == self.worker:
                self._uplink.leave_worker(now)  # it stops, and says so to every session it holds
            case _ if record is None:
                self.tally.num_ignored += 1
            case Reason.BUSY:
                if record is self._uplink.oldest:
                    self._uplink.leave_worker(now + max(refusal.retry_after, self._settings.min_timeout))
            case Reason.NEED_CONTEXT:
                if not self._uplink.repair(refusal, now):
                    self.tally.num_ignored += 1  # the deadline will bring another worker
            case _:
                self.fail(explain(refusal))

    def _lose_cloud(self, reason: str, now: float, *, until_told: bool = False) -> None:
        """Fail, or settle for what the draft model says and try again later."""
        if self.cloud.policy is not OnCloudLoss.LOCAL or not self._settings.drafts:
            self.fail(reason)
            return
        self._transcript.mark_open(Fate.UNVERIFIED)
        self._held.clear()
        self._uplink.clear()
        self._uplink.leave_worker(now)
        self._uplink.synced = len(self.tokens)
        self.epoch += 1
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
        oldest = self._uplink.oldest
        boundary = len(self.tokens) - len(self._held)
        if oldest is not None and not oldest.is_stream:
            boundary = oldest.start
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
        self._held.clear()
        self._uplink.close()
