"""What is to be sent to apps and is not yet with the broker. Pure.

Law: memory is bounded, whatever apps ask and however long the broker is away. An answer makes room for
nothing but a newer answer; refusals and events go before it; of a retained topic only the last is kept;
tokens are not kept at all: the answer has their text.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum, auto

MAX_ANSWERS = 64
MAX_NOTES = 256
MAX_BYTES = 1024 * 1024  # of answers, and of notes

_BEFORE_ALL = 1 << 60


class Kind(Enum):
    """How long a message is worth keeping."""

    TOKENS = auto()  # not while the broker is away
    NOTE = auto()  # refusals and events: the oldest goes for a new one
    ANSWER = auto()
    RETAINED = auto()  # the last of each topic


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message for apps. `wants_reader_until`: if no one reads it, it is sent again until then.

    `number` is its place in the order of the outbox.
    """

    kind: Kind
    topic: str
    payload: bytes
    correlation: bytes | None = None
    wants_reader_until: float = float("-inf")
    number: int = 0

    @property
    def qos(self) -> int:
        """Tokens are sent once; all else is acknowledged by the broker."""
        return 0 if self.kind is Kind.TOKENS else 1


class Outbox:
    """In the order in which messages were put."""

    def __init__(self) -> None:
        self._queue: deque[Outgoing] = deque()
        self._retained: dict[str, Outgoing] = {}
        self._num_put = 0
        self.num_dropped = 0

    def put(self, message: Outgoing, *, first: bool = False) -> None:
        """Add a message, before all others with `first`, and drop what there is no room for."""
        self._num_put += 1
        message = replace(message, number=self._num_put - _BEFORE_ALL * first)
        if message.kind is Kind.RETAINED:
            self._retained[message.topic] = message
            return
        self._queue.append(message)
        self._trim(message.kind)

    def put_back(self, message: Outgoing) -> None:
        """Add a message that could not be sent, at its old place, unless a later one has replaced it."""
        if message.kind is Kind.RETAINED:
            self._retained.setdefault(message.topic, message)
        elif message.kind is not Kind.TOKENS:
            at = next(
                (at for at, one in enumerate(self._queue) if one.number > message.number), len(self._queue)
            )
            self._queue.insert(at, message)
            self._trim(message.kind)

    def take(self) -> Outgoing | None:
        """The next message to send."""
        retained = min(self._retained.values(), key=lambda one: one.number, default=None)
        if retained is not None and not (self._queue and self._queue[0].number < retained.number):
            return self._retained.pop(retained.topic)
        return self._queue.popleft() if self._queue else None

    def drop_tokens(self) -> None:
        """The broker is away."""
        self._drop(lambda one: one.kind is Kind.TOKENS)

    def __len__(self) -> int:
        return len(self._queue) + len(self._retained)

    @property
    def num_bytes(self) -> int:
        """Of the payloads that are kept, without the retained ones."""
        return sum(len(one.payload) for one in self._queue)

    def _trim(self, kind: Kind) -> None:
        limit = MAX_ANSWERS if kind is Kind.ANSWER else MAX_NOTES
        while True:
            same = [one for one in self._queue if one.kind is kind]
            if len(same) <= limit and sum(len(one.payload) for one in same) <= MAX_BYTES:
                return
            self._queue.remove(same[0])
            self.num_dropped += 1

    def _drop(self, is_dropped: Callable[[Outgoing], bool]) -> None:
        self._queue = deque(one for one in self._queue if not is_dropped(one))
