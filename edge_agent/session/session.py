"""EdgeSession: the owner of the sequence. Pure: time and messages come in, drafts and tokens go out.

Law 3: the text is a function of the prompt, the seed and the models. So nothing here depends on when an
answer comes: a draft that is asked again keeps its number and its block, a late or repeated answer is
ignored, and a rejection rewinds to where the target disagreed (`EdgeSequence`).
"""

import math
from collections.abc import Sequence

from common.protocol.messages import Correction, Opening, Reason, Refusal, ToDevice
from edge_agent.errors import AgentError
from edge_agent.policy.policy import Decision, ForcedRun, Proposal
from edge_agent.session.audit import Audit
from edge_agent.session.cloud_loss import UNREACHABLE, CloudLoss
from edge_agent.session.ending import Ending
from edge_agent.session.in_flight import InFlight
from edge_agent.session.pacing import InTheAir, Pacing
from edge_agent.session.refusals import SHORT_PAUSE, Refusals, explain
from edge_agent.session.round_trip import RoundTrip
from edge_agent.session.send_window import Outgoing
from edge_agent.session.sequence import EdgeSequence
from edge_agent.session.settings import OnCloudLoss, SessionSettings
from edge_agent.session.stopping import Decoder
from edge_agent.session.tally import Tally
from edge_agent.session.transcript import Fate, FinalToken


class EdgeSession:
    """One generation, driven by `advance` in `edge_agent.session.step`.

    When `finished`, `failure` says why it ended early, or is None.
    """

    def __init__(self, prompt: Sequence[int], settings: SessionSettings) -> None:
        """`prompt` holds at least one token; it must leave room for one more within `max_positions`."""
        if not prompt:
            raise ValueError("the prompt has no tokens")
        self.tally = Tally()
        self.round_trip = RoundTrip(settings.first_timeout, settings.min_timeout, settings.max_timeout)
        self.pacing = Pacing(
            settings.window, settings.block_length, settings.experience, may_stream=settings.may_stream
        )
        policy = settings.on_cloud_loss
        if policy is OnCloudLoss.LOCAL and not settings.drafts:
            policy = OnCloudLoss.FAIL  # no draft model to continue with
        self.cloud = CloudLoss(policy, settings.cloud_timeout, settings.min_timeout)
        self.failure: str | None = None
        self._refusals = Refusals(settings.min_timeout)
        self._settings = settings
        self._sequence = EdgeSequence(prompt, settings, self.round_trip, self.tally)
        self._send_window = self._sequence.send_window
        self._ending = Ending(self._sequence.transcript, settings, self.tally)
        self._num_held = 0  # tokens that the worker held at the end
        self._drafted_version: int | None = None  # of the text that the draft model is continuing
        self._num_unread = len(prompt)  # tokens that the draft model reads next
        self._num_read = 0  # tokens of the sequence that it has read, roughly
        self._is_shadow = False  # it was begun beside a stream
        self._broken: tuple[int, AgentError] | None = None  # the version that cannot be continued, and why
        self._has_begun = False
        self._reads_ahead = False

    # -- what a driver asks ---------------------------------------------------------------------------

    @property
    def opening(self) -> Opening:
        """What a worker needs to take the session."""
        return self._settings.opening

    @property
    def tokens(self) -> Sequence[int]:
        """The whole sequence as assumed now: what the draft model should continue."""
        return self._sequence.transcript.tokens

    @property
    def tentative(self) -> Sequence[int]:
        """The end of `tokens` that is not final yet and may still be rejected."""
        return self.tokens[self._ending.num_final :]

    @property
    def most_tokens(self) -> int:
        """The most tokens that this answer can have, as far as known: it may be less than `max_tokens`."""
        num_prompt = self._sequence.transcript.num_prompt
        return min(self._settings.max_tokens, self._ending.max_positions - num_prompt)

    @property
    def worker(self) -> str | None:
        """The worker that holds the session; None while none has answered."""
        return self._send_window.worker

    @property
    def finish_reason(self) -> str | None:
        """`stop`, `length` or `error`; None while tokens may come."""
        return self._ending.reason

    @property
    def finished(self) -> bool:
        """Whether no further token will come."""
        return self.finish_reason is not None

    @property
    def wants_draft(self) -> bool:
        """Whether the draft model should run on `tokens` as soon as it is free."""
        if not self._settings.drafts or self.finished or self._is_broken or self._ending.tail_ended:
            return False
        if self.pacing.streaming.is_chosen:
            return self.pacing.streaming.wants_shadow(self.pacing.outlook)
        return self.pacing.drafts_ahead(self._sequence.held, self._in_the_air)

    @property
    def awaits_draft(self) -> bool:
        """Whether a draft was begun and has not returned yet."""
        return self._drafted_version is not None

    @property
    def draft_error(self) -> AgentError | None:
        """Why the text cannot go on: the draft model failed at the next token, and all before it is settled.

        An error in what was drafted ahead does not count while a rejection may still take the text elsewhere.
        """
        is_next = self._sequence.boundary == len(self.tokens)
        if self._broken is None or not self._is_broken or not is_next or self.finished:
            return None
        return self._broken[1]

    @property
    def _is_broken(self) -> bool:
        return self._broken is not None and self._broken[0] == self._sequence.transcript.version

    @property
    def deadline(self) -> float | None:
        """When `tick` or `silence` is due; None when no answer is awaited."""
        oldest = self._send_window.oldest
        return min(oldest.deadline, self.cloud.due_at(oldest.asked_at)) if oldest else None

    def silence(self, now: float) -> str | None:
        """Why an answer has been awaited for too long; once for each silence, else None."""
        oldest = self._send_window.oldest
        return self.cloud.silence(oldest.asked_at, now) if oldest else None

    def take_outgoing(self) -> list[Outgoing]:
        """The messages to send, in order; each is given once."""
        return self._send_window.take_outgoing()

    def take_final(self) -> list[FinalToken]:
        """The tokens that became final, in order; each is given once."""
        return self._ending.take_final()

    # -- what happens -------------------------------------------------------------------------------

    def stop_with(self, decoder: Decoder) -> None:
        """End the text at the token that completes a stop string of `decoder`; before `begin`."""
        self._ending.stop_with(decoder)

    def read_ahead(self) -> None:
        """As the session begins, have a worker read the prompt while the draft model does; before `begin`.

        Only if the first token will surely go up: else it may be needless.
        """
        self._reads_ahead = self._settings.asks_first

    def begin(self, now: float) -> None:
        """The first step: the target model is asked to write when there is no drafting."""
        if self._has_begun:
            return
        self._has_begun = True
        self.cloud.answered(now)
        if not self.cloud.is_away(now):
            self.pacing.streaming.begin(self.pacing.outlook, self._num_unread)
        is_streamed = self.pacing.streaming.is_chosen or not self._settings.drafts
        if is_streamed and not self.finished:
            self._sequence.launch(self._ending.tokens_left, now)
        elif self._reads_ahead and not self.finished:
            self._send_window.read_ahead()

    def begin_draft(self) -> list[int] | None:
        """The tokens that the draft model should continue now; `drafted` takes its answer.

        None when no draft is wanted or one has been begun already: the draft model runs one at a time.
        """
        if self.awaits_draft or not self.wants_draft:
            return None
        self._drafted_version = self._sequence.transcript.version
        self._is_shadow = self.pacing.streaming.is_chosen
        if self._num_read:
            self._num_unread = max(1, len(self.tokens) - self._num_read)
        self._num_read = len(self.tokens)
        return list(self.tokens)

    def drafted(self, proposal: Proposal | ForcedRun, now: float, seconds: float = 0.0) -> None:
        """Take in the draft that was begun, which took `seconds`; drop it if the text has changed since."""
        version, self._drafted_version = self._drafted_version, None
        if self.pacing.streaming.is_chosen:
            if self._is_shadow:
                self.pacing.shadowed(self._num_read, proposal, seconds, self._num_unread)
                self._compare_with_stream()
            return
        if version != self._sequence.transcript.version or not self.wants_draft:
            return
        if isinstance(proposal, ForcedRun):
            self._force(proposal, now)
        else:
            self._propose(proposal, now, seconds)

    def draft_failed(self, error: AgentError, now: float) -> None:
        """The draft that was begun failed: have verified what there is; drafting goes on if that changes.

        A scheme that may stream has the target write the rest: its text depends on no draft.
        """
        version, self._drafted_version = self._drafted_version, None
        if self.pacing.streaming.is_chosen:
            self.pacing.streaming.go_on_without_drafts()
            return
        if version is None or version != self._sequence.transcript.version or not self.wants_draft:
            return
        if self.pacing.streaming.is_allowed and not self.cloud.is_away(now):
            self.pacing.streaming.go_on_without_drafts()
            self._send_if_due(now)
            self._settle()
            return
        self._broken = version, error
        if len(self._sequence.held):
            self._sequence.launch(0, now)
        self._settle()

    def _force(self, run: ForcedRun, now: float) -> None:
        """Append tokens that both models agree on, up to the end of the text."""
        for token in run.tokens:
            self._sequence.transcript.append(token, Fate.FORCED, math.nan)
            if self._ending.tail_ended:
                break
        self._send_if_due(now)
        self._settle()

    def _propose(self, proposal: Proposal, now: float, seconds: float) -> None:
        fate = None
        if proposal.decision is Decision.SKIP:
            fate = Fate.LOCAL
        elif self.cloud.is_away(now):
            fate = Fate.UNVERIFIED
        else:
            risk = self.pacing.rejections.line_risk(proposal.uncertainty)
            self._sequence.hold(proposal.draft, risk)
        self.pacing.drafted(seconds, is_held=fate is None, num_unread=self._num_unread)
        self._sequence.transcript.append(proposal.draft.token, fate, proposal.prob)
        self._send_if_due(now, asks=proposal.decision is Decision.UPLINK and self._settings.flushes)
        self._settle()

    def _send_if_due(self, now: float, *, asks: bool = False) -> None:
        """Send up what is held, if it should go now; `asks` means that its last token must."""
        if self.pacing.streaming.is_chosen:
            self._stream_on(now)
            return
        held, air = self._sequence.held, self._in_the_air
        ends = self._ending.tail_ended or self._is_broken
        if len(held) and (asks or self.pacing.is_due(held, air, ends=ends)):
            wants_bonus = self._settings.wants_bonus and not ends
            self._sequence.launch(int(wants_bonus), now)

    def _stream_on(self, now: float) -> None:
        """Have the target model write the rest, once nothing is in flight; drafts not sent are forgotten."""
        if len(self._send_window) or self.finished:
            return
        self._sequence.drop_held()
        if not self._ending.tail_ended:
            self._sequence.launch(self._ending.tokens_left, now)

    def _compare_with_stream(self) -> None:
        """Learn from what was drafted beside the stream; break the stream off if drafting is faster."""
        self.pacing.judge(self.tokens)
        stream, streaming = self._send_window.oldest, self.pacing.streaming
        is_under_way = stream is not None and stream.is_stream and stream.next_index > 0
        if is_under_way and streaming.takes_over(self.pacing.outlook, self._ending.tokens_left):
            streaming.take_over()
            self._send_window.clear()

    @property
    def _in_the_air(self) -> InTheAir:
        return InTheAir(len(self._send_window), self._send_window.hazard)

    def receive(self, message: ToDevice, now: float) -> None:
        """Take in a worker's answer. One that does not fit anything in flight is ignored."""
        record = self._send_window.find(message.n)
        if (reading := self._send_window.take_reading(message.n)) is not None:
            self._read_by(reading, message, now)
        elif isinstance(message, Refusal):
            self._refused(record, message, now)
        elif record is None or not record.fits(message, self._settings.opening.vocab_size):
            self.tally.num_ignored += 1
        else:
            self._corrected(record, message, now)
        oldest = self._send_window.oldest
        if oldest is not None and oldest.too_long is not None:
            self._shorten(oldest, oldest.too_long, now)
        self._send_if_due(now)
        self._settle()

    def tick(self, now: float) -> None:
        """Where a deadline has passed: ask any worker again, or follow the policy for a lost cloud."""
        oldest = self._send_window.oldest
        if oldest is None:
            return
        if now >= self.cloud.runs_out_at(oldest.asked_at):
            self._lose_cloud(self.cloud.complaint, now)
        elif now < oldest.deadline:
            return
        elif oldest.next_index > 0:  # a stream broke off: ask for the rest of it
            self._send_window.clear()
            self._send_window.leave_worker(now)
            self._sequence.launch(self._ending.tokens_left, now)
        else:
            self._send_window.ask_anyone(now)
        self._settle()

    def no_worker(self, now: float) -> None:
        """The broker reports that no worker listens on the `open` topic."""
        if self._send_window.oldest is None:
            return
        if self.cloud.leaves_empty_pool(now):
            self._settle_for_drafts(now)
            self.cloud.lose_pool(now)
            self._settle()
        else:
            self._send_window.ask_by(now + self._settings.min_timeout)

    def broker_busy(self, now: float) -> None:
        """The broker did not take a draft for now: ask again soon, until the cloud counts as lost."""
        self._send_window.ask_by(now + self._settings.min_timeout)

    def connecting(self, since: float) -> None:
        """The link has been trying to connect for the first time since `since`: hold what would be sent."""
        self.cloud.connecting(since)
        self._send_window.is_held = True

    def disconnected(self, now: float) -> None:
        """The link to the broker is down: nothing can be asked until `connected`."""
        self.cloud.disconnected(now)
        self._send_window.is_held = True
        self._send_window.distrust()
        if self.cloud.policy is OnCloudLoss.LOCAL and not self.finished:
            self._lose_cloud(UNREACHABLE, now)
            self._settle()

    def connected(self, now: float) -> None:
        """The link is up, perhaps again; what was in flight may be lost, so ask at once."""
        self.cloud.connected(now)
        self._send_window.is_held = False
        if self._send_window.oldest is not None:
            self._send_window.oldest.deadline = now

    def stop(self) -> None:
        """End the text here, because no one reads on: nothing more is emitted."""
        self._finish("stop")

    def fail(self, reason: str) -> None:
        """End with an error: `reason` is a one-line message for the user."""
        self.failure = reason
        self._finish("error")

    # -- answers ------------------------------------------------------------------------------------

    def _corrected(self, record: InFlight, correction: Correction, now: float) -> None:
        """Learn from the answer's times, then let the sequence take it in."""
        if record.next_index == 0:
            self._learn(record, correction, now)
        elif record.num_tries == 1:
            self.pacing.token_came(now, correction.compute_ms / 1000)
        self._answered(now)
        learned = self._ending.learn(record.end_ids(correction), self._sequence.boundary)
        self._sequence.correct(record, correction, now)
        if learned and (end := self._ending.first_end) is not None:
            self._sequence.cut(end, now)
        if record.block:
            num_final, num_tested = self._sequence.boundary, self.pacing.rejections.num_tested
            self.pacing.streaming.answered(self.pacing.outlook, now, num_final, num_tested)
        elif self.pacing.streaming.is_chosen:
            self._compare_with_stream()
        self._send_window.extend_deadline(now)
        self._send_window.send_waiting(now)

    def _read_by(self, reading: InFlight, message: ToDevice, now: float) -> None:
        """A worker reads the prompt; a refusal has no effect: the first draft goes to any worker then."""
        if isinstance(message, Refusal) and message.reason is Reason.NEED_CONTEXT:
            self._send_window.spell_out()
        if isinstance(message, Refusal) or not reading.fits(message, self._settings.opening.vocab_size):
            return
        if self._send_window.read_by(message.worker):
            self._ending.learn(reading.end_ids(message), self._sequence.boundary)
            if message.limit > self._sequence.transcript.num_prompt:
                self._ending.limit(message.limit)
            ends = [self._ending.first_end, self._ending.max_positions]
            end = min(end for end in ends if end is not None)
            if end <= len(self.tokens):  # drafted, and not sent yet
                self._sequence.cut(end, now)

    def _learn(self, record: InFlight, correction: Correction, now: float) -> None:
        """Take in what an answer shows: how long it took, and how many tokens are rejected."""
        if record.num_tries == 1:
            round_trip = now - record.sent_at
            seconds = min(correction.compute_ms / 1000, round_trip)  # a worker may claim more
            self.round_trip.observe(round_trip)
            waited = record is not self._send_window.oldest or record.was_behind
            self.pacing.answered(round_trip, seconds, record.num_positions, waited=waited)
        is_rejected = correction.num_accepted < len(record.block)
        num_tested = correction.num_accepted + is_rejected
        share = num_tested / max(1, len(record.block))
        self.pacing.rejections.tested(share * record.risk, num_tested, is_rejected=is_rejected)

    def _answered(self, now: float) -> None:
        self.cloud.answered(now)
        self._refusals.clear()

    def _refused(self, record: InFlight | None, refusal: Refusal, now: float) -> None:
        if refusal.reason is Reason.NEED_CONTEXT:
            self._send_window.spell_out()
        match refusal.reason:
            case Reason.BUSY if refusal.n is None and refusal.worker == self.worker:
                self._send_window.leave_worker(now)  # it is stopping, and tells every session it holds
            case _ if record is None or not self._send_window.has_asked(refusal.worker):
                self.tally.num_ignored += 1
            case Reason.TOO_LONG if not record.is_paused:
                record.too_long = refusal
            case Reason.NEED_CONTEXT if self._send_window.repair(refusal, now):
                pass
            case _ if record is not self._send_window.oldest or record.is_paused:
                self.tally.num_ignored += 1  # the deadline will bring another worker
            case Reason.BUSY | Reason.NEED_CONTEXT:
                self.cloud.refused(refusal)
                self._send_window.pause(now + self._refusals.pause(refusal, now))
            case _:
                self._object(refusal, now)

    def _object(self, refusal: Refusal, now: float) -> None:
        """A worker refuses the oldest draft for good: perhaps it is alone with that."""
        if self._refusals.settles(refusal):
            self.fail(explain(refusal))
        else:
            self._send_window.pause(now + SHORT_PAUSE)

    def _shorten(self, record: InFlight, refusal: Refusal, now: float) -> None:
        """End the text at the worker's limit, or where the draft begins that goes beyond it."""
        record.too_long = None
        num_sure = len(self.tokens) if record.is_stream else record.start
        needed = num_sure + 1 if record.is_stream else record.end + min(record.bonus, 1)
        limit = refusal.have or num_sure  # an older worker does not state its limit
        if record.is_stream and limit >= needed:
            self.tally.num_ignored += 1  # it has overtaken tokens, which the deadline brings again
        elif self._sequence.transcript.num_prompt < limit < needed:
            self._answered(now)
            self._ending.limit(max(limit, num_sure))
            self._sequence.shorten(record, max(limit, num_sure), now)
        else:
            self._object(refusal, now)

    def _lose_cloud(self, reason: str, now: float) -> None:
        """Fail, or keep what the draft model wrote and try again later."""
        if self.cloud.policy is not OnCloudLoss.LOCAL:
            self.fail(reason)
            return
        self._settle_for_drafts(now)
        self.cloud.lose(reason, now)

    def _settle_for_drafts(self, now: float) -> None:
        self.pacing.streaming.give_up()
        self._sequence.settle_for_drafts(now)

    # -- the end ------------------------------------------------------------------------------------

    def _settle(self) -> None:
        """Emit every token before the first that still awaits verification; end at a stop token."""
        reason = self._ending.settle(self._sequence.boundary)
        if reason is not None:
            self._finish(reason)

    def _finish(self, reason: str) -> None:
        if self.finished:
            return
        self._ending.end(reason)
        self._sequence.held.clear()
        self._num_held = min(self._send_window.num_held, self._ending.num_final)
        if self._settings.audits and self.failure is None:
            self._send_window.clear()  # the audit will close the session
        else:
            self._send_window.close()

    def audit(self, now: float) -> Audit | None:
        """What remains to be measured of a finished session; None unless audits are on and it succeeded."""
        if not (self._settings.audits and self.finished and self.failure is None):
            return None
        return Audit(
            self._sequence.transcript,
            self._settings.opening,
            self.round_trip,
            worker=self.worker,
            num_held=self._num_held,
            next_n=self._send_window.next_n,
            epoch=self._sequence.epoch,
            pause=self._settings.min_timeout,
            now=now,
        )
