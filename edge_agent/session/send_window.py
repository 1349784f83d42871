"""SendWindow: the drafts in flight, in order, and the worker they are sent to. Pure.

Law: only the oldest draft is ever given to a worker with the whole context, since those after it build on a
block that is not verified yet; they wait until its worker is known. Nothing is sent while the link is down.

    transcript | verified ... | [context|block] [context|block] ... |
                              ^ oldest.base                         ^ synced
"""

from collections import deque
from dataclasses import dataclass, replace

from common.protocol.grammar import AnswerGrammar
from common.protocol.messages import Close, Draft, Opening, Refusal
from edge_agent.session.held import Piece
from edge_agent.session.in_flight import InFlight
from edge_agent.session.round_trip import RoundTrip
from edge_agent.session.tally import Tally
from edge_agent.session.transcript import Transcript

MAX_REPAIRS = 2  # first what the worker says it lacks, then everything


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message and the worker it goes to; None means any worker (the `open` topic)."""

    message: Draft | Close
    worker: str | None


class SendWindow:
    """`worker` is None until one has answered; `synced` is what it holds once all in flight is accepted.

    While `is_held` nothing is sent: a draft is looked at again at its deadline.
    """

    def __init__(
        self,
        transcript: Transcript,
        opening: Opening,
        round_trip: RoundTrip,
        tally: Tally,
        *,
        knows_grammar: bool = False,
    ) -> None:
        """With `knows_grammar` a draft names the opening's grammar by its digest when it is first sent."""
        self.worker: str | None = None
        self.synced = 0
        self.is_held = False
        self._transcript = transcript
        self._opening = opening
        self._brief = _briefly(opening) if knows_grammar else opening
        self._round_trip = round_trip
        self._tally = tally
        self._in_flight: deque[InFlight] = deque()
        self._next_n = 0
        self._num_repairs = 0
        self._reading: InFlight | None = None  # the prompt, sent ahead and not answered yet
        self._reader: str | None = None  # a worker that reads it, while another may get the session
        self._outgoing: list[Outgoing] = []

    def __len__(self) -> int:
        return len(self._in_flight)

    @property
    def oldest(self) -> InFlight | None:
        """The draft whose answer all later drafts wait for."""
        return self._in_flight[0] if self._in_flight else None

    @property
    def hazard(self) -> float:
        """-log of the probability that nothing in flight is rejected."""
        return sum(record.hazard for record in self._in_flight)

    @property
    def num_held(self) -> int:
        """Tokens that the worker certainly holds: none while anything is in flight."""
        return 0 if self._in_flight or self.worker is None else self.synced

    @property
    def next_n(self) -> int:
        """The number of the next draft."""
        return self._next_n

    def find(self, n: int | None) -> InFlight | None:
        """The draft in flight with this number."""
        return next((record for record in self._in_flight if record.n == n), None)

    def take_outgoing(self) -> list[Outgoing]:
        """The messages to send, in order; each is given once."""
        taken, self._outgoing = self._outgoing, []
        return taken

    # -- reading ahead ------------------------------------------------------------------------------

    def read_ahead(self) -> None:
        """Have any worker read the prompt before there is a draft. It is sent once, and may be lost."""
        if self.is_held or self._next_n:
            return
        self._reading = InFlight(
            n=0, epoch=0, base=0, start=len(self._transcript), block=(), bonus=0, num_context_probs=0
        )
        self._next_n = 1
        message = self._reading.message(self._transcript.tokens, self._brief, whole=True)
        self._outgoing.append(Outgoing(message, None))

    def take_reading(self, n: int | None) -> InFlight | None:
        """The prompt that was sent ahead, if `n` is its number; once."""
        taken = self._reading if self._reading is not None and self._reading.n == n else None
        self._reading = self._reading if taken is None else None
        return taken

    def spell_out(self) -> None:
        """A worker lacks the grammar: send its source from now on."""
        self._brief = self._opening

    def read_by(self, worker: str) -> bool:
        """Note that `worker` reads the prompt; whether it gets the first draft: none has been sent so far."""
        if self.worker is None and self._next_n == 1 and self.synced == 0:
            self.worker, self.synced = worker, self._transcript.num_prompt
            return True
        self._reader = worker
        self._leave_reader()
        return False

    def _leave_reader(self) -> None:
        """Tell the worker that has read the prompt in vain, if another one has the session."""
        if self.worker is not None and self._reader not in (None, self.worker):
            self._outgoing.append(Outgoing(Close(), self._reader))
        if self.worker is not None:
            self._reader = None

    # -- sending ------------------------------------------------------------------------------------

    def launch(
        self,
        piece: Piece,
        *,
        bonus: int,
        epoch: int,
        num_context_probs: int,
        num_positions: int = 0,
        now: float,
    ) -> None:
        """Send a piece of the transcript, or keep it until the worker is known."""
        record = InFlight(
            n=self._next_n,
            epoch=epoch,
            base=self.synced,
            start=piece.start,
            block=tuple(piece.tokens),
            bonus=bonus,
            num_context_probs=num_context_probs,
            risk=piece.risk,
            hazard=piece.hazard,
            num_positions=num_positions,
            was_behind=len(self._in_flight) > 0,
            asked_at=now,
        )
        self._next_n += 1
        self.synced = piece.end
        self._in_flight.append(record)
        if self.worker is not None or len(self._in_flight) == 1:
            self._send(record, now)
        else:
            record.awaits_worker = True

    def send_waiting(self, now: float) -> None:
        """Send the drafts that waited until the worker was known; it may have them already."""
        for record in self._in_flight:
            if record.awaits_worker and record.sent_to == self.worker is not None:
                record.awaits_worker = False
                record.deadline = now + self._round_trip.timeout(1, whole_context=False)
            elif record.awaits_worker:
                self._send(record, now)

    def distrust(self) -> None:
        """What was sent may be lost: no worker is taken to have it."""
        for record in self._in_flight:
            record.sent_to = None

    def ask_anyone(self, now: float) -> None:
        """Offer the oldest draft with the whole context to any worker; later ones follow its answer."""
        self.worker = None
        self._num_repairs = 0
        oldest, *later = self._in_flight
        for record in later:
            record.awaits_worker = True
        if oldest.num_silences and not self.is_held:
            self._round_trip.back_off()
        self._send(oldest, now)

    def repair(self, refusal: Refusal, now: float) -> bool:
        """Send again what the worker lacks: first the drafts as they were, then the whole context.

        False when it has had all that already, or the refusal was sent before the last repair.
        """
        oldest = self._in_flight[0]
        if self._num_repairs >= MAX_REPAIRS or (self._num_repairs and refusal.n != oldest.n):
            return False
        holds_base = 0 < oldest.base <= refusal.have and refusal.worker == self.worker
        self.worker = refusal.worker
        whole = not holds_base or self._num_repairs > 0
        self._num_repairs += 1
        oldest.num_silences = 0
        for record in self._in_flight:
            self._send(record, now, whole=whole and record is oldest)
        return True

    def _send(self, record: InFlight, now: float, *, whole: bool = False) -> None:
        whole = whole or self.worker is None or record.base == 0
        record.awaits_worker = record.is_paused = False
        if self.is_held:
            record.deadline = now + self._round_trip.timeout(1, whole_context=whole)
            return
        record.num_tries += 1
        record.num_silences += 1
        record.sent_at = now
        record.sent_to = self.worker
        if record.num_tries == 1:
            record.first_sent_at = now
            self._tally.num_uplinks += 1
        else:
            self._tally.num_resent += 1
        record.deadline = now + self._round_trip.timeout(record.num_silences, whole_context=whole)
        opening = self._brief if record.num_tries == 1 else self._opening
        message = record.message(self._transcript.tokens, opening, whole=whole)
        self._outgoing.append(Outgoing(message, self.worker))

    # -- answers ------------------------------------------------------------------------------------

    def answered_by(self, worker: str) -> None:
        """Note that this worker holds the sequence now."""
        self.worker = worker
        self._num_repairs = 0
        self._leave_reader()

    def extend_deadline(self, now: float) -> None:
        """A worker has answered: give it as long for the next answer (RFC 6298, 5.3)."""
        oldest = self.oldest
        if oldest is not None and oldest.num_tries == 1 and not oldest.is_paused:
            least = now + self._round_trip.timeout(1, whole_context=False)
            oldest.deadline = max(oldest.deadline, least)

    def take_before(self, record: InFlight) -> list[InFlight]:
        """Remove the drafts before `record`: a worker that answered it has accepted them all."""
        taken: list[InFlight] = []
        while self._in_flight[0] is not record:
            taken.append(self._in_flight.popleft())
        return taken

    def settle_oldest(self) -> None:
        """Remove the oldest draft, which has been answered in full."""
        self._in_flight.popleft()

    def drop_unsent(self, length: int) -> list[InFlight]:
        """Remove the drafts that go beyond position `length` and were never sent, the newest first."""
        dropped: list[InFlight] = []
        while self._in_flight and self._in_flight[-1].end > length and not self._in_flight[-1].num_tries:
            dropped.append(self._in_flight.pop())
            self.synced = dropped[-1].base
        return dropped

    def clear(self) -> None:
        """Drop everything in flight."""
        self._in_flight.clear()

    def ask_by(self, deadline: float) -> None:
        """Ask again by `deadline` at the latest, if anything is in flight."""
        if self._in_flight:
            self._in_flight[0].deadline = min(self._in_flight[0].deadline, deadline)

    def leave_worker(self, deadline: float) -> None:
        """Ask another worker once `deadline` has passed."""
        self.worker = None
        if self._in_flight:
            self._in_flight[0].deadline = deadline

    def has_asked(self, worker: str) -> bool:
        """Whether a refusal can be this worker's: the one that was asked, or any where all were."""
        return self.worker in (None, worker)

    def pause(self, until: float) -> None:
        """The oldest draft is refused: leave it alone for a while, then ask another worker."""
        self.leave_worker(until)
        self._in_flight[0].is_paused = True
        self._in_flight[0].num_silences = 0

    def close(self) -> None:
        """Tell the worker that the session is over."""
        self.clear()
        if self.worker is not None:
            self._outgoing.append(Outgoing(Close(), self.worker))


def _briefly(opening: Opening) -> Opening:
    given = opening.grammar
    return replace(opening, grammar=given.briefly) if isinstance(given, AnswerGrammar) else opening
