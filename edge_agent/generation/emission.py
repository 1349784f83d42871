"""Turn the steps of a session into what an app sees: tentative tokens at once, and final ones.

Law: the texts of the `Token`s, joined, are the answer, and none follows the `Token` that completes a stop
string. `Tentative` and `Retraction` only show early what the answer may become. All come from one kind of
decoder, so a `Token` has exactly the text of its `Tentative`, and nothing is shown that a stop string or a
missing byte would hide.
"""

from collections.abc import Iterator, Sequence
from copy import copy
from itertools import takewhile

from edge_agent.generation.events import Emitted, Retraction, Tentative, Token
from edge_agent.session.transcript import Fate, FinalToken
from edge_agent.text.stop_strings import StopStrings
from edge_agent.text.stream import TextStream


class Decoder:
    """Tokens to the text that may be shown; a copy continues independently."""

    def __init__(self, stream: TextStream, stops: StopStrings) -> None:
        self._stream = stream
        self._stops = stops

    @property
    def can_stop(self) -> bool:
        """Whether there are stop strings."""
        return self._stops.can_stop

    @property
    def stopped(self) -> bool:
        """Whether a stop string has ended the text."""
        return self._stops.stopped

    def push(self, token: int) -> str:
        """The text that the token completes."""
        shown = self._stops.push(self._stream.push(token))
        special = self._stream.special(token)
        return shown + self._stops.push_special(special) if special else shown

    def flush(self) -> str:
        """The text that was held back, at the end."""
        return self._stops.push(self._stream.flush()) + self._stops.flush()

    def __copy__(self) -> "Decoder":
        return Decoder(copy(self._stream), copy(self._stops))


class Emission:
    """After each step, takes what became final and what is assumed to follow; yields what changes."""

    def __init__(self, decoder: Decoder) -> None:
        self._decoder = decoder  # of the final tokens
        self._ahead = copy(self._decoder)  # of the tentative ones as well
        self._announced: list[Tentative] = []
        self._fate = Fate.LOCAL

    @property
    def stopped(self) -> bool:
        """Whether a stop string has ended the answer."""
        return self._decoder.stopped

    def update(self, finals: Sequence[FinalToken], tail: Sequence[int]) -> Iterator[Emitted]:
        """Take in the tokens that became final, and the whole tail that is assumed after them now."""
        assumed = [*(final.token for final in finals), *tail]
        yield from self._retract(assumed)
        for final in finals:
            if self.stopped:
                break
            yield self._confirm(final)
        for token in [] if self.stopped else tail[len(self._announced) :]:
            self._announced.append(Tentative(self._ahead.push(token), token))
            yield self._announced[-1]

    def finish(self) -> Iterator[Emitted]:
        """End: nothing more becomes final."""
        yield from self._retract([])
        rest = self._decoder.flush()
        if rest:
            yield Token(rest, None, self._fate)

    def _retract(self, assumed: Sequence[int]) -> Iterator[Retraction]:
        pairs = zip(self._announced, assumed, strict=False)
        num_kept = len(list(takewhile(lambda pair: pair[0].token == pair[1], pairs)))
        fallen = self._announced[num_kept:]
        if fallen:
            del self._announced[num_kept:]
            self._follow()
            yield Retraction("".join(one.text for one in fallen), len(fallen))

    def _confirm(self, final: FinalToken) -> Token:
        self._fate = final.fate
        text = self._decoder.push(final.token)
        if self._announced:
            del self._announced[0]
        else:
            self._follow()
        return Token(text, final.token, final.fate)

    def _follow(self) -> None:
        """Decode the tentative tokens again, after what is final."""
        self._ahead = copy(self._decoder)
        for one in self._announced:
            self._ahead.push(one.token)
