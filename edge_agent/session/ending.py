"""Which tokens are final, and whether the text has ended. Pure.

Law: a token becomes final once and in order, and nothing becomes final after the end.

Law 3, at the end: the target model's own end tokens become known with the first answer, whenever it comes.
They count from the first position that the target judged, and nothing behind that position is final before
the answer. So where the text ends does not depend on when they became known.
"""

from edge_agent.session.settings import SessionSettings
from edge_agent.session.stopping import Decoder, Stopping
from edge_agent.session.tally import Tally
from edge_agent.session.transcript import FinalToken, Transcript


class Ending:
    """`reason` is None until the text has ended.

    `num_final` includes the prompt, and so does `max_positions`, the most tokens that the models are known to
    take.
    """

    def __init__(self, transcript: Transcript, settings: SessionSettings, tally: Tally) -> None:
        self.reason: str | None = None
        self.num_final = transcript.num_prompt
        self.max_positions = settings.max_positions
        self._target_ends: frozenset[int] = frozenset()  # the target model's, once known
        self._first_judged = 0  # the position from which they count
        self._stopping: Stopping | None = None
        self._transcript = transcript
        self._settings = settings
        self._tally = tally
        self._final: list[FinalToken] = []

    def stop_with(self, decoder: Decoder) -> None:
        """End the text at the token that completes a stop string of `decoder`, which continues the prompt."""
        self._stopping = Stopping(decoder)

    def limit(self, length: int) -> None:
        """End the text when prompt and answer have `length` tokens together."""
        self.max_positions = min(self.max_positions, length)

    def learn(self, target_ends: frozenset[int], first_judged: int) -> bool:
        """Let the target's end tokens end the text from position `first_judged` on.

        Returns whether that was news; what is known stays.
        """
        if self._target_ends or not target_ends:
            return False
        self._target_ends, self._first_judged = target_ends, first_judged
        return True

    @property
    def tokens_left(self) -> int:
        """How many more tokens fit after the sequence, as assumed now."""
        generated = self._settings.max_tokens - self._transcript.num_generated
        return min(generated, self.max_positions - len(self._transcript))

    @property
    def tail_ended(self) -> bool:
        """Whether the sequence, as assumed now, is complete."""
        has_stopped = self._transcript.num_generated > 0 and self._is_end(len(self._transcript) - 1)
        return has_stopped or self.tokens_left <= 0 or self._tail_stopped

    @property
    def first_end(self) -> int | None:
        """The position after the first end token that is not final yet; None if there is none."""
        tail = range(self.num_final, len(self._transcript))
        return next((position + 1 for position in tail if self._is_end(position)), None)

    def settle(self, boundary: int) -> str | None:
        """Emit every token before position `boundary`; return the finish reason when they end the text."""
        while self.num_final < boundary and self.reason is None:
            final, is_end = self._transcript.final(self.num_final), self._is_end(self.num_final)
            self.num_final += 1
            self._final.append(final)
            self._tally.num_by_fate[final.fate] += 1
            has_stopped = self._stopping is not None and self._stopping.settle(final.token)
            if has_stopped or is_end:
                return "stop"
        if self.num_final < len(self._transcript) or self.tokens_left > 0:
            return None
        is_stop = self._stopping is not None and self._stopping.is_complete_at_end()
        return "stop" if is_stop else "length"

    def end(self, reason: str) -> None:
        """End the text with what is final, and forget what was measured of what is not."""
        self.reason = reason
        self._transcript.rewind(self.num_final)
        self._tally.num_measured, self._tally.measured_risk_sum = self._transcript.measured

    def _is_end(self, position: int) -> bool:
        token = self._transcript.tokens[position]
        is_targets = position >= self._first_judged and token in self._target_ends
        return is_targets or token in self._settings.stop_ids

    @property
    def _tail_stopped(self) -> bool:
        if self._stopping is None:
            return False
        return self._stopping.is_complete(self._transcript.tokens[self.num_final :])

    def take_final(self) -> list[FinalToken]:
        """The tokens that became final, in order; each is given once."""
        taken, self._final = self._final, []
        return taken
