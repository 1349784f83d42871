"""Calls as Llama 3 writes them: a JSON object with name and parameters, in place of a text. Pure."""

from collections.abc import Sequence

from common.protocol.grammar import Grammar
from edge_agent.tools.call_format import Conversation, Message
from edge_agent.tools.lark import lark, schema, text_rules, token
from edge_agent.tools.object_reader import ObjectReader
from edge_agent.tools.schemas import call_schema
from edge_agent.tools.tool import ToolUse

MARK = "<|python_tag|>"  # some of these models write it before a call


class Llama:
    """`mark` is the id of the token `<|python_tag|>`."""

    def __init__(self, mark: int | None) -> None:
        self._mark = mark

    def conversation(self, messages: Sequence[Message], use: ToolUse | None) -> Conversation:
        """As they are: the template knows tools."""
        return Conversation(messages, None if use is None else use.shown)

    def grammar(self, use: ToolUse, text: Grammar | None) -> Grammar:
        """A text that does not begin as a call does, or calls."""
        calls = f'json ("; " json){{0,{use.most_calls - 1}}}' if use.is_parallel else "json"
        rules = (f"calls: {calls}", f"json: {schema(call_schema(use.callable, 'parameters'))}")
        if use.must_call:
            return lark("start: calls", *rules)
        if text is None:
            mark = "" if self._mark is None else f"{token(self._mark, MARK)}? "
            return lark(f"start: text | {mark}calls", text_rules(None, r"/([^{](.|\n)*)?/"), *rules)
        return lark("start: text | calls", text_rules(text), *rules)

    def reader(self, use: ToolUse) -> ObjectReader:
        """A reader for one answer."""
        return ObjectReader(use, MARK, "parameters", at_start=True)
