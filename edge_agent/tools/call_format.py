"""What every format of calls has: how a conversation is shown, what may be written, how it is read. Pure.

Law: an answer is a text, or calls, or a text and then calls. What a reader gives as a call names a tool that
may be called and has an object of arguments; anything else is text, as it was written.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from common.protocol.grammar import Grammar
from edge_agent.tools.call import Call, Piece
from edge_agent.tools.tool import Json, ToolUse

Message = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Conversation:
    """What the chat template gets.

    `beginning` is what the answer has already, and `rest` what the rest of it must match. `may_call`: it may
    call tools.
    """

    messages: Sequence[Message]
    tools: Sequence[Json] | None = None
    beginning: str = ""
    rest: Grammar | None = None
    may_call: bool = True


class Reader(Protocol):
    """Reads one answer as it grows."""

    def push(self, text: str, special: str = "") -> list[Piece]:
        """The pieces that become certain with more of the answer; `special` is a special token before it."""
        ...

    def finish(self) -> list[Piece]:
        """The pieces that become certain with the end of the answer."""
        ...


class CallFormat(Protocol):
    """One way of calling tools, for one answer: its `conversation` comes first."""

    def conversation(self, messages: Sequence[Message], use: ToolUse | None) -> Conversation:
        """The messages, earlier calls and results among them, as the model was taught to read them."""
        ...

    def grammar(self, use: ToolUse, text: Grammar | None) -> Grammar:
        """What an answer may be; a text must match `text`. Raises ConfigError."""
        ...

    def reader(self, use: ToolUse) -> Reader:
        """A reader for one answer."""
        ...


def call_of(found: object, use: ToolUse, arguments: str) -> Call | None:
    """The call that a JSON value is; None if it is none of a tool that may be called."""
    if not isinstance(found, Mapping):
        return None
    name, given = found.get("name"), found.get(arguments)
    if given is None:
        given = {}
    if not isinstance(given, Mapping) or all(tool.name != name for tool in use.callable):
        return None
    return Call(str(name), given)
