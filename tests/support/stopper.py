"""Stop strings made of tokens, for the laws of the two state machines, which know no text."""

from dataclasses import dataclass, field, replace
from typing import Self


@dataclass
class Stopper:
    """A decoder whose text is its tokens, and whose stop string is a sequence of them."""

    stop: tuple[int, ...]
    at_end: bool = False  # the last token of the stop string shows only at the end
    tokens: list[int] = field(default_factory=list[int])
    stopped: bool = False

    def push(self, token: int) -> str:
        self.tokens.append(token)
        self.stopped = self.stopped or (not self.at_end and self.tokens[-len(self.stop) :] == list(self.stop))
        return ""

    def flush(self) -> str:
        self.stopped = self.tokens[-len(self.stop) :] == list(self.stop)
        return ""

    def __copy__(self) -> Self:
        return replace(self, tokens=list(self.tokens))
