"""Calls as Hermes and Qwen write them: `<tool_call>`, a JSON object with name and arguments, `</tool_call>`.

A model whose chat template knows no tools is shown them in the words of these models. Pure.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, cast

from common.protocol.grammar import Grammar
from edge_agent.tools.call import Piece
from edge_agent.tools.call_format import Conversation, Message, call_of
from edge_agent.tools.lark import lark, schema, text_rules, text_without, token
from edge_agent.tools.schemas import call_schema
from edge_agent.tools.tool import ToolUse

OPEN, CLOSE = "<tool_call>", "</tool_call>"
_INSTRUCTIONS = """# Tools

You may call one or more functions to assist with the user query.

You are provided with function signatures within <tools></tools> XML tags:
<tools>
{tools}
</tools>

For each function call, return a json object with function name and arguments within {open}{close} XML tags:
{open}
{{"name": <function-name>, "arguments": <args-json-object>}}
{close}"""


class Hermes:
    """`opening` and `closing` are the ids of the two marks, None where they are ordinary text."""

    def __init__(self, opening: int | None, closing: int | None, *, template_knows_tools: bool) -> None:
        self._marks = (opening, closing)
        self._template_knows_tools = template_knows_tools

    def conversation(self, messages: Sequence[Message], use: ToolUse | None) -> Conversation:
        """As they are, or with the tools and calls written into the messages."""
        if self._template_knows_tools:
            return Conversation(messages, None if use is None else use.shown)
        written = [_written(message) for message in messages]
        return Conversation(written if use is None else _instructed(written, use))

    def grammar(self, use: ToolUse, text: Grammar | None) -> Grammar:
        """Free text, then calls on lines of their own."""
        more = f' ("\\n" call){{0,{use.most_calls - 1}}}' if use.is_parallel else ""
        opening, closing = (token(id, mark) for id, mark in zip(self._marks, (OPEN, CLOSE), strict=True))
        rest = (f"call: {opening} body", f'body: "\\n" json "\\n" {closing}')
        rules = (*rest, f"json: {schema(call_schema(use.callable, 'arguments'))}")
        if use.must_call:
            return lark(f"start: call{more}", *rules)
        if text is not None:
            return lark(f"start: text | call{more}", text_rules(text), *rules)
        if self._marks[0] is not None:
            return lark(f"start: text | text call{more}", text_rules(None), *rules)
        head = f"head[lazy]: /(.|\\n)*{OPEN}/"
        return lark(f"start: text | head body{more}", head, text_rules(None, text_without(OPEN)), *rules)

    def reader(self, use: ToolUse) -> "HermesReader":
        """A reader for one answer."""
        return HermesReader(use)


class HermesReader:
    """Holds back what may be the beginning of a call, and the white space before it."""

    def __init__(self, use: ToolUse) -> None:
        self._use = use
        self._held = ""
        self._is_inside = False
        self._has_called = False

    def push(self, text: str, special: str = "") -> list[Piece]:
        """See `Reader`."""
        self._held += (special if special in (OPEN, CLOSE) else "") + text
        pieces: list[Piece] = []
        while True:
            before, mark, after = self._held.partition(CLOSE if self._is_inside else OPEN)
            if not mark:
                break
            pieces += self._called(before) if self._is_inside else self._said(before.rstrip())
            self._held, self._is_inside = after, not self._is_inside
        if not self._is_inside:
            length = num_safe(self._held, OPEN)
            pieces += self._said(self._held[:length])
            self._held = self._held[length:]
        return pieces

    def finish(self) -> list[Piece]:
        """A call that is not closed counts if it is whole."""
        held, self._held = self._held, ""
        if self._is_inside:
            call = call_of(_parsed(held), self._use, "arguments")
            return [] if call is None else [call]
        return self._said(held.rstrip() if self._has_called else held)

    def _said(self, text: str) -> list[Piece]:
        text = text.lstrip() if self._has_called else text
        return [text] if text else []

    def _called(self, body: str) -> list[Piece]:
        call = call_of(_parsed(body), self._use, "arguments")
        if call is None:
            return [f"{OPEN}{body}{CLOSE}"]
        self._has_called = True
        return [call]


def num_safe(text: str, mark: str) -> int:
    """How much of `text` is certain: not what may begin the mark, nor the white space before it."""
    most = min(len(mark) - 1, len(text))
    begun = next((length for length in range(most, 0, -1) if text.endswith(mark[:length])), 0)
    return len(text[: len(text) - begun].rstrip())


def _parsed(body: str) -> object:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def _instructed(messages: Sequence[Message], use: ToolUse) -> list[Message]:
    tools = "\n".join(json.dumps(one, ensure_ascii=False) for one in use.shown)
    told = _INSTRUCTIONS.format(tools=tools, open=OPEN, close=CLOSE)
    first, *rest = messages
    if first.get("role") != "system":
        return [{"role": "system", "content": told}, *messages]
    return [{**first, "content": f"{first.get('content') or ''}\n\n{told}"}, *rest]


def _written(message: Message) -> Message:
    """Earlier calls and results as text."""
    if message.get("role") == "tool":
        return {"role": "user", "content": f"<tool_response>\n{message.get('content')}\n</tool_response>"}
    calls = message.get("tool_calls")
    if not isinstance(calls, Sequence) or not calls:
        return message
    texts = [str(message.get("content") or ""), *map(_call_text, cast("Sequence[Mapping[str, Any]]", calls))]
    return {"role": "assistant", "content": "\n".join(text for text in texts if text)}


def _call_text(found: Mapping[str, Any]) -> str:
    function: Mapping[str, Any] = found.get("function") or {}
    call = {"name": function.get("name"), "arguments": function.get("arguments") or {}}
    return f"{OPEN}\n{json.dumps(call, ensure_ascii=False)}\n{CLOSE}"
