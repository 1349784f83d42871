"""Which tokens are final, and whether the text has ended. Pure.

Law: a token becomes final once and in order, and nothing becomes final after the end.
"""

from edge_agent.session.settings import SessionSettings
from edge_agent.session.tally import Tally
from edge_agent.session.transcript import FinalToken, Transcript


class Ending:
    """`reason` is None until the text has ended; `num_final` includes the prompt."""

    def __init__(self, transcript: Transcript, settings: SessionSettings, tally: Tally) -> None:
        self.reason: str | None = None
        self.num_final = transcript.num_prompt
        self._transcript = transcript
        self._settings = settings
        self._tally = tally
        self._final: list[FinalToken] = []

    @property
    def tokens_left(self) -> int:
        """How many more tokens fit after the sequence, as assumed now."""
        generated = self._settings.max_tokens - self._transcript.num_generated
        return min(generated, self._settings.max_positions - len(self._transcript))

    @property
    def tail_ended(self) -> bool:
        """Whether the sequence, as assumed now, is complete."""
        tokens = self._transcript.tokens
        has_stopped = self._transcript.num_generated > 0 and tokens[-1] in self._settings.stop_ids
        return has_stopped or self.tokens_left <= 0

    def settle(self, boundary: int) -> str | None:
        """Emit every token before position `boundary`; return the finish reason when they end the text."""
        while self.num_final < boundary and self.reason is None:
            final = self._transcript.final(self.num_final)
            self.num_final += 1
            self._final.append(final)
            self._tally.num_by_fate[final.fate] += 1
            if final.token in self._settings.stop_ids:
                return "stop"
            if self.num_final == len(self._transcript) and self.tokens_left <= 0:
                return "length"
        return None

    def end(self, reason: str) -> None:
        """End the text with what is final."""
        self.reason = reason
        self._transcript.rewind(self.num_final)

    def take_final(self) -> list[FinalToken]:
        """The tokens that became final, in order; each is given once."""
        taken, self._final = self._final, []
        return taken
