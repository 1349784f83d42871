"""A prompt with tools: what the model is shown, what it may answer, and how its answer is read. Pure.

Law: without tools and their results, the prompt is untouched.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

from common.protocol.grammar import MAX_GRAMMAR_BYTES, Grammar
from edge_agent.errors import ConfigError, PromptError
from edge_agent.tools.call import Call, Piece
from edge_agent.tools.call_format import CallFormat, Message, Reader
from edge_agent.tools.tool import Json, ToolUse

Prompt: TypeAlias = str | Sequence[Message]


@dataclass(frozen=True, slots=True)
class Asking:
    """`beginning` is what the answer has already; `new_reader` is None where it cannot call tools."""

    prompt: Prompt
    tools: Sequence[Json] | None = None
    beginning: str = ""
    grammar: Grammar | None = None
    new_reader: Callable[[], Reader] | None = None


def asking(
    prompt: Prompt,
    use: ToolUse | None,
    grammar: Grammar | None,
    new_format: Callable[[], CallFormat] | None,
    *,
    system: str | None = None,
) -> Asking:
    """What to ask the model with: its text must match `grammar`, its calls the tools.

    `new_format` is None where there is no chat template; `system` is a system prompt that the messages lack.
    Raises ConfigError, and PromptError.
    """
    if use is None and (isinstance(prompt, str) or not _has_calls(prompt)):
        return Asking(prompt, grammar=grammar)
    if new_format is None:
        if use is None:
            return Asking(prompt, grammar=grammar)
        raise PromptError("`tools` has no effect, since there is no chat template: leave it out")
    messages: Sequence[Message] = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
    if system is not None:
        messages = [{"role": "system", "content": system}, *messages]
    form = new_format()
    shown = form.conversation(messages, use)
    if use is None or not shown.may_call:
        return Asking(shown.messages, shown.tools, shown.beginning, grammar or shown.rest)
    limits = form.grammar(use, grammar)
    length = len(limits.source.encode(errors="replace"))
    if length > MAX_GRAMMAR_BYTES:
        raise ConfigError(
            f"`tools` make a grammar of {length:,} bytes, {MAX_GRAMMAR_BYTES:,} at most: offer fewer"
        )
    return Asking(shown.messages, shown.tools, shown.beginning, limits, partial(form.reader, use))


def _has_calls(messages: Sequence[Message]) -> bool:
    return any(one.get("role") == "tool" or one.get("tool_calls") for one in messages)


class Reading:
    """An answer as it is read: `content` is its text for the user, `calls` are its calls so far."""

    def __init__(self, reader: Reader, special: Callable[[int], str]) -> None:
        """`special` is the text of a special token, which texts of answers never have; empty for others."""
        self.content = ""
        self.calls: list[Call] = []
        self._reader = reader
        self._special = special

    def push(self, text: str, token: int | None) -> list[Piece]:
        """Take in the text of a token (None: text alone); the pieces that it completes."""
        return self._took(self._reader.push(text, "" if token is None else self._special(token)))

    def finish(self) -> list[Piece]:
        """The answer has ended; the pieces that this completes."""
        return self._took(self._reader.finish())

    def _took(self, pieces: list[Piece]) -> list[Piece]:
        self.content += "".join(piece for piece in pieces if isinstance(piece, str))
        self.calls += [piece for piece in pieces if isinstance(piece, Call)]
        return pieces
