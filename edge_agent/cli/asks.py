"""What `edge-agent generate` is asked: one prompt, or many from the lines of an input.

Law: with several prompts, one that cannot be read as such does not keep the others from their answers.
"""

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import cast

from common.protocol.grammar import Grammar
from common.sampling.randomness import MAX_SEED
from edge_agent.cli.input import MAX_CHARACTERS, open_input, read_lines, read_whole
from edge_agent.errors import PromptError
from edge_agent.formats import LINE_FORMATS, grammar_of
from edge_agent.json_fields import JsonFields
from edge_agent.text.prompts import Message
from edge_agent.text.template_vars import check_template_vars

STDIN = "-"
_FIELDS = ("prompt", "messages", "system", "template_vars", "seed", "id")


class Form(Enum):
    """How an input is divided into prompts."""

    WHOLE = "whole"
    LINES = "lines"  # each line that is not blank
    JSONL = "jsonl"  # each line that is not blank, in JSON


class _Fields(JsonFields):
    """The fields of a line."""

    def refusal(self, message: str, name: str) -> PromptError:  # noqa: ARG002 - the message has it
        """Why the line is no prompt."""
        return PromptError(message)


@dataclass(frozen=True, slots=True)
class Ask:
    """One prompt (a text or chat messages), with what came with it, if anything."""

    prompt: str | Sequence[Message]
    seed: int | None = None
    id: str | int | None = None
    system: str | None = None
    template_vars: Mapping[str, object] | None = None
    grammar: Grammar | None = None


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A line that is not a prompt, and the reason."""

    line: str
    error: PromptError


async def asks(prompt: str | None, file: Path | None, form: Form) -> AsyncIterator[Ask | Unreadable]:
    """Yield what to answer: `prompt`, or the content of `file` or of standard input (`-`), divided by `form`.

    Raises PromptError when the input cannot be read.
    """
    if prompt is not None and prompt != STDIN:
        yield Ask(prompt)
        return
    path = None if file is None or str(file) == STDIN else file
    stream = open_input(path)
    if form is Form.WHOLE:
        whole = await read_whole(stream)
        if not whole.strip():
            raise PromptError(f"there is no prompt in {path or 'standard input'}: it is empty")
        yield Ask(whole)
        return
    async for line in read_lines(stream):
        if line.strip():
            yield parse_line(line, form)


def parse_line(line: str, form: Form) -> Ask | Unreadable:
    """The prompt on one line of an input of the form `LINES` or `JSONL`."""
    try:
        if len(line) > MAX_CHARACTERS:
            raise PromptError(f"this line is longer than {MAX_CHARACTERS:,} characters: shorten it")
        return Ask(line) if form is Form.LINES else _from_json(line)
    except PromptError as error:
        return Unreadable(line[:MAX_CHARACTERS], error)


def _from_json(line: str) -> Ask:
    """A JSON text, or an object with `prompt` or `messages`, and optionally the other fields of `Ask`."""
    try:
        found: object = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise PromptError(f"this line is not valid JSON: {error}") from error
    if isinstance(found, str):
        return Ask(found)
    if not isinstance(found, dict):
        raise PromptError("this line is neither a JSON text nor an object with 'prompt' or 'messages'")
    entry = cast("dict[str, object]", found)
    if unknown := entry.keys() - {*_FIELDS, *LINE_FORMATS}:
        names = ", ".join(map(repr, (*_FIELDS[2:], *LINE_FORMATS)))
        raise PromptError(
            f"unknown field {sorted(unknown)[0]!r}: a line has 'prompt' or 'messages', and optionally {names}"
        )
    fields = _Fields(entry)
    variables = entry.get("template_vars")
    return Ask(
        _prompt(entry),
        _seed(fields),
        _id(entry.get("id")),
        _system(entry),
        None if variables is None else check_template_vars(variables),
        grammar_of(fields, LINE_FORMATS),
    )


def _prompt(entry: dict[str, object]) -> str | Sequence[Message]:
    prompt, messages = entry.get("prompt"), entry.get("messages")
    if isinstance(prompt, str) and messages is None:
        return prompt
    if prompt is None and _are_messages(messages):
        return cast("list[Message]", messages)
    raise PromptError(
        "give either 'prompt', a text, or 'messages', a list of objects with 'role' and 'content'"
    )


def _are_messages(found: object) -> bool:
    if not isinstance(found, list) or not found:
        return False
    each = cast("list[object]", found)
    return all(
        isinstance(one, dict) and isinstance(cast("dict[str, object]", one).get("role"), str) for one in each
    )


def _system(entry: dict[str, object]) -> str | None:
    system = entry.get("system")
    if system is None:
        return None
    if entry.get("messages") is not None:
        raise PromptError(
            "'system' goes with 'prompt': 'messages' have a message with the role system instead"
        )
    if not isinstance(system, str) or not system.strip():
        raise PromptError("'system' must be a text that is not empty")
    return system


def _seed(fields: _Fields) -> int | None:
    seed = fields.whole("seed")
    if seed is None or 0 <= seed <= MAX_SEED:
        return seed
    raise fields.wrong("seed", f"a whole number from 0 to {MAX_SEED}")


def _id(found: object) -> str | int | None:
    if found is None or (isinstance(found, str | int) and not isinstance(found, bool)):
        return found
    raise PromptError("'id' must be a text or a whole number")
