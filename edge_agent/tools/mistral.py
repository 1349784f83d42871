"""Calls as Mistral write them: `[TOOL_CALLS]` and a list of objects with name and arguments. Pure."""

import re
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any, cast

from common.protocol.grammar import Grammar
from edge_agent.tools.call_format import Conversation, Message
from edge_agent.tools.lark import ANY_TEXT, lark, schema, text_rules, text_without, token
from edge_agent.tools.object_reader import ObjectReader
from edge_agent.tools.schemas import calls_schema
from edge_agent.tools.tool import ToolUse

MARK = "[TOOL_CALLS]"
_ID = re.compile(r"[A-Za-z0-9]{9}")  # the only ids that the chat templates take


class Mistral:
    """`mark` is the id of the token `[TOOL_CALLS]`."""

    def __init__(self, mark: int | None) -> None:
        self._mark = mark

    def conversation(self, messages: Sequence[Message], use: ToolUse | None) -> Conversation:
        """With ids that the template takes."""
        return Conversation([_renamed(one) for one in messages], None if use is None else use.shown)

    def grammar(self, use: ToolUse, text: Grammar | None) -> Grammar:
        """Free text, or calls."""
        listed = calls_schema(use.callable, "arguments", most=use.most_calls)
        rules = (f'calls: {token(self._mark, MARK)} " "? json', f"json: {schema(listed)}")
        if use.must_call:
            return lark("start: calls", *rules)
        any_text = ANY_TEXT if self._mark is not None else text_without(MARK)
        return lark("start: text | calls", text_rules(text, any_text), *rules)

    def reader(self, use: ToolUse) -> ObjectReader:
        """A reader for one answer."""
        return ObjectReader(use, MARK, "arguments")


def _renamed(message: Message) -> Message:
    renamed = dict(message)
    if "tool_call_id" in message:
        renamed["tool_call_id"] = _id(message["tool_call_id"])
    calls = message.get("tool_calls")
    if isinstance(calls, Sequence) and calls:
        listed = cast("Sequence[Mapping[str, Any]]", calls)
        renamed["tool_calls"] = [
            {**call, "id": _id(call.get("id", number))} for number, call in enumerate(listed)
        ]
    return renamed


def _id(found: object) -> str:
    id = str(found)
    return id if _ID.fullmatch(id) else sha256(id.encode(errors="replace")).hexdigest()[:9]
