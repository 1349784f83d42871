"""EdgeSequence: the tokens as assumed now, those that wait to go up, and what a verdict does to them. Pure.

Law 3, in the sequence: a verdict is applied where its block begins, whenever it comes. What is accepted
stays; a rejection rewinds to the rejected token and voids all that was drafted after it.

    tokens  | prompt | settled ....... | in flight: [context|block] [context|block] | held or skipped |
                                       ^ boundary
"""

from collections.abc import Sequence

import numpy as np

from common.protocol.messages import MAX_CONTEXT_PROBS, Correction, DraftToken
from common.sampling.distribution import Lattice
from edge_agent.session.held import Held, Piece
from edge_agent.session.in_flight import InFlight
from edge_agent.session.round_trip import RoundTrip
from edge_agent.session.send_window import SendWindow
from edge_agent.session.settings import SessionSettings
from edge_agent.session.tally import Tally
from edge_agent.session.transcript import Fate, Transcript


class EdgeSequence:
    """`transcript` is all of it, `held` what waits to go up, `send_window` what is in flight.

    `epoch` counts rewinds.
    """

    def __init__(
        self, prompt: Sequence[int], settings: SessionSettings, round_trip: RoundTrip, tally: Tally
    ) -> None:
        self.epoch = 0
        self.transcript = Transcript(prompt)
        self.held = Held()
        self.send_window = SendWindow(
            self.transcript, settings.opening, round_trip, tally, knows_grammar=settings.knows_grammar
        )
        self._num_measured = MAX_CONTEXT_PROBS if settings.measures_risk else 0
        self._round_trip = round_trip
        self._tally = tally

    @property
    def boundary(self) -> int:
        """The position of the first token that still awaits verification."""
        oldest = self.send_window.oldest
        if oldest is not None and not oldest.is_stream:
            return oldest.start
        return len(self.transcript) if self.held.start is None else self.held.start

    def hold(self, token: DraftToken, risk: float) -> None:
        """Let a token wait to go up, which is the next of the transcript.

        Forced tokens right before it join what is held before them, so that one draft takes all.
        """
        position, transcript = len(self.transcript), self.transcript
        end = self.held.end
        if end is not None and end < position and transcript.is_forced(end, position):
            self.held.bridge([_forced(one, token) for one in transcript.tokens[end:]])
        self.held.add(position, token, risk)

    def launch(self, bonus: int, now: float) -> None:
        """Send up what is held, which may be nothing, and ask for `bonus` tokens of the target after it."""
        pieces = self.held.take() or [Piece(len(self.transcript))]
        num_positions = pieces[-1].end - self.send_window.synced
        for piece in pieces:
            begin = max(self.send_window.synced, self.transcript.num_prompt)
            num_skipped = piece.start - self.transcript.first_skipped(begin, piece.start)
            self.send_window.launch(
                piece,
                bonus=bonus if piece is pieces[-1] else 0,
                epoch=self.epoch,
                num_context_probs=min(max(0, num_skipped), self._num_measured),
                num_positions=num_positions,
                now=now,
            )

    def correct(self, record: InFlight, correction: Correction, now: float) -> None:
        """Apply a correction that fits `record`; all blocks before it have been accepted then."""
        self.send_window.answered_by(correction.worker)
        for earlier in self.send_window.take_before(record):
            self._accept(earlier, len(earlier.block))
        if record.next_index == 0:
            self._measure(record, record.context_codes(correction))
            self._accept(record, correction.num_accepted)
        if correction.num_accepted < len(record.block):
            self._reject(record, correction)
        elif correction.token is not None:
            self._append_bonus(record, correction.token, now)
        else:
            self.send_window.settle_oldest()

    def shorten(self, record: InFlight, length: int, now: float) -> None:
        """Ask again about the oldest draft, but only about its tokens before position `length`."""
        self.transcript.rewind(length)
        self.send_window.clear()
        self.send_window.synced = min(record.base, length) if record.block else length
        self.held.pieces = [record.piece]
        self._launch_before(length, now)

    def cut(self, length: int, now: float) -> None:
        """Forget what was never sent from position `length` on, since the text ends there unless rejected.

        What remains of it goes up.
        """
        unsent = self.send_window.drop_unsent(length)
        self.held.pieces = [record.piece for record in reversed(unsent)] + self.held.pieces
        self.transcript.rewind(max(length, self.send_window.synced))
        self.send_window.send_waiting(now)
        self._launch_before(length, now)

    def drop_held(self) -> None:
        """Forget the tokens that wait to go up, and all after them."""
        if self.held.start is not None:
            self.transcript.rewind(self.held.start)
        self.held.clear()

    def settle_for_drafts(self, now: float) -> None:
        """Keep as drafted what awaits verification, since it will not be verified."""
        self.transcript.mark_open(Fate.UNVERIFIED)
        self.held.clear()
        self.send_window.clear()
        self.send_window.leave_worker(now)
        self.send_window.synced = len(self.transcript)
        self.epoch += 1

    def _launch_before(self, length: int, now: float) -> None:
        self.held.cut(length)
        if len(self.held):
            self.launch(0, now)

    def _accept(self, record: InFlight, count: int) -> None:
        self.transcript.mark(record.start, count, Fate.VERIFIED)

    def _reject(self, record: InFlight, correction: Correction) -> None:
        """Rewind to the rejected token and put the target's in its place."""
        self.transcript.rewind(record.start + correction.num_accepted)
        self.send_window.clear()
        self.held.clear()
        self._append(correction.token, Fate.CORRECTED)
        self.epoch += 1

    def _append_bonus(self, record: InFlight, token: int, now: float) -> None:
        self._append(token, Fate.TARGET)
        record.next_index += 1
        record.deadline = now + self._round_trip.timeout(1, whole_context=False)
        if record.next_index >= record.bonus:
            self.send_window.settle_oldest()

    def _append(self, token: int | None, fate: Fate) -> None:
        assert token is not None  # checked by InFlight.fits
        self.transcript.append(token, fate)
        self.send_window.synced = len(self.transcript)

    def _measure(self, record: InFlight, codes: bytes) -> None:
        if codes:
            start = record.start - record.num_context_probs
            risks = self._tally.measure(self.transcript.draft_probs(start, record.start), codes)
            self.transcript.mark_measured(start, risks)


def _forced(token: int, like: DraftToken) -> DraftToken:
    """A forced token as a block takes it: the target model cannot reject it."""
    if not isinstance(like.distribution, Lattice):
        return DraftToken(token)
    return DraftToken(token, Lattice(np.array([token]), np.array([like.distribution.total])))
