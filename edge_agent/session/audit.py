"""An audit: after the text is final, the target model measures what was skipped and never measured. Pure.

Law: an audit changes no token and delays nothing. One that is lost, refused or late only leaves its tokens
unmeasured, and it ends after `LONGEST_AUDIT` seconds at the latest, whatever workers answer.

A text that skips its last tokens, or all of them, has no later draft that could measure them. Without an
audit, a draft model that is certain and wrong would never be noticed.
"""

from collections import deque
from collections.abc import Iterator

from common.protocol.messages import MAX_CONTEXT_PROBS, Close, Correction, Opening, Reason, ToDevice
from edge_agent.session.in_flight import InFlight
from edge_agent.session.refusals import Refusals
from edge_agent.session.round_trip import RoundTrip
from edge_agent.session.send_window import Outgoing
from edge_agent.session.tally import Tally
from edge_agent.session.transcript import Transcript

LONGEST_AUDIT = 20.0  # seconds, for which a closing agent may wait


class Audit:
    """One finished text. Send `take_outgoing`, feed `receive`, call `tick` at `deadline`, until `over`.

    It asks piece by piece, since one draft may ask for 256 probabilities at most; `tally` counts the results.
    """

    def __init__(
        self,
        transcript: Transcript,
        opening: Opening,
        round_trip: RoundTrip,
        *,
        worker: str | None,
        num_held: int,
        next_n: int,
        epoch: int,
        pause: float,
        now: float,
    ) -> None:
        """`worker` holds the first `num_held` tokens at `epoch`; 0 when that is uncertain.

        `pause` is the least time to leave a pool alone that is busy.
        """
        self.tally = Tally()
        self.over = False
        self.deadline = now
        self._ends_at = now + LONGEST_AUDIT
        self._refusals = Refusals(pause)
        self._is_paused = False
        self._transcript = transcript
        self._opening = opening
        self._round_trip = round_trip
        self._worker = worker
        self._num_held = num_held
        self._next_n = next_n
        self._epoch = epoch
        self._pieces = deque(_pieces(transcript.unmeasured()))
        self._has_asked_again = False
        self._outgoing: list[Outgoing] = []
        self._ask(now)

    def take_outgoing(self) -> list[Outgoing]:
        """The messages to send, in order; each is given once."""
        taken, self._outgoing = self._outgoing, []
        return taken

    def receive(self, message: ToDevice, now: float) -> None:
        """Take in a worker's answer; one to anything else is ignored."""
        if self.over or message.n != self._next_n:
            return
        if isinstance(message, Correction):
            self._answered(message, now)
        elif message.reason is Reason.NEED_CONTEXT:
            self._ask_again(message.worker, now)
        elif message.reason is not Reason.BUSY:
            self.end()
        elif not self._is_paused:
            self._is_paused = True
            self._set_deadline(now + self._refusals.pause(message, now))

    def tick(self, now: float) -> None:
        """Once the deadline has passed, ask any worker; give up the second time, or after too long."""
        if self.over or now < self.deadline:
            return
        if now >= self._ends_at:
            self.end()
        else:
            self._ask_again(None, now)

    def end(self) -> None:
        """Nothing more is asked; the worker may forget the session."""
        if not self.over and self._worker is not None:
            self._outgoing.append(Outgoing(Close(), self._worker))
        self.over = True

    def _ask(self, now: float) -> None:
        if not self._pieces:
            self.end()
            return
        piece, whole = self._pieces[0], self._num_held == 0
        draft = InFlight(
            n=self._next_n,
            epoch=self._epoch,
            base=min(self._num_held, piece.start),
            start=piece.stop,
            block=(),
            bonus=0,
            num_context_probs=len(piece),
        )
        message = draft.message(self._transcript.tokens, self._opening, whole=whole)
        self._outgoing.append(Outgoing(message, self._worker))
        self.tally.num_audits += 1
        self._is_paused = False
        self._set_deadline(now + self._round_trip.timeout(1, whole_context=whole))

    def _set_deadline(self, deadline: float) -> None:
        self.deadline = min(deadline, self._ends_at)

    def _answered(self, correction: Correction, now: float) -> None:
        piece = self._pieces.popleft()
        self._worker, self._num_held = correction.worker, piece.stop
        self._next_n += 1
        if len(correction.context_codes) == len(piece):
            self.tally.measure(
                self._transcript.draft_probs(piece.start, piece.stop), correction.context_codes
            )
        self._ask(now)

    def _ask_again(self, worker: str | None, now: float) -> None:
        """Ask once more, with the whole text: the worker that has lost the session, or any worker (None)."""
        self._worker, self._num_held = worker, 0
        if self._has_asked_again:
            self.end()
        else:
            self._has_asked_again = True
            self._ask(now)


def _pieces(runs: list[range]) -> Iterator[range]:
    for run in runs:
        for start in range(run.start, run.stop, MAX_CONTEXT_PROBS):
            yield range(start, min(start + MAX_CONTEXT_PROBS, run.stop))
