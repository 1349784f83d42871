"""The demo pair's way: a JSON list of actions of its home, then a line for the user. Pure.

The pair was taught one command at a time. Tools that take part in it are Home Assistant's intents, and those
that take actions as they are; any other tool stands in the list as an object with name and arguments. What
was done is the beginning of the pair's next answer, so it goes on with the line for the user.
"""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, cast

from common.protocol.grammar import Grammar
from edge_agent.tools.action_schema import action_schemas, definitions, list_schema, timer_schema
from edge_agent.tools.call import Call, Piece
from edge_agent.tools.call_format import Conversation, Message, call_of
from edge_agent.tools.exposed import exposed
from edge_agent.tools.intents import Intents
from edge_agent.tools.lark import lark, schema, text_rules
from edge_agent.tools.schemas import definitions as argument_definitions
from edge_agent.tools.schemas import each_call
from edge_agent.tools.tool import ToolUse
from edge_agent.tools.values import JsonObjects

MARK = "{# answers: actions of the home #}"  # in the chat template of such a model
FAILED = "Sorry, that did not work."
CANNOT = "Sorry, I have no tool for that."
_LINE = r"/[^\n]*/"


class ActionList:
    """The entities that the conversation lists decide which calls its actions become."""

    def __init__(self) -> None:
        self._intents = Intents(())

    def conversation(self, messages: Sequence[Message], use: ToolUse | None) -> Conversation:
        """The last command; what was done for it is the beginning of the answer."""
        last = next((n for n in reversed(range(len(messages))) if messages[n].get("role") == "user"), None)
        since = () if last is None else messages[last + 1 :]
        if use is None and not any(one.get("role") == "tool" for one in since):
            return Conversation(messages)
        if last is None:
            return Conversation(messages)
        self._intents = Intents(() if use is None else use.callable, exposed(messages))
        if not since:
            return Conversation([messages[last]])
        tools = () if use is None else use.tools
        done = _done(Intents(tools, exposed(messages)), since)
        rest = lark(f"start: {json.dumps(FAILED)}" if not done else f"start: {_LINE}")
        return Conversation([messages[last]], None, f"{_compact(done)}\n", rest, may_call=False)

    def grammar(self, use: ToolUse, text: Grammar | None) -> Grammar:
        """Actions and nothing else, or no action and a text."""
        items, defined = self._items(use)
        listed = schema(list_schema(items, defined, most=use.most_calls))
        if use.must_call:
            return lark("start: calls", f"calls: {listed}")
        return lark('start: calls | "[]\\n" text', f"calls: {listed}", text_rules(text, _LINE))

    def _items(self, use: ToolUse) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        """Without the need to call, all that the home does: what no tool can do is then said, not done."""
        intents = self._intents
        if use.must_call and intents.taking:
            taking = intents.taking
            return [{"$ref": f"#/$defs/t{n}"} for n in range(len(taking))], argument_definitions(taking)
        foreign = intents.foreign
        if not use.must_call:
            known = action_schemas()
        else:
            known = action_schemas(intents.deeds(), may_wait=False)
            if any(tool.base_name == "HassStartTimer" for tool in use.callable):
                known.append(timer_schema())
        shared = definitions() if known else {}
        return [*known, *each_call(foreign, "arguments")], {**shared, **argument_definitions(foreign)}

    def reader(self, use: ToolUse) -> "ActionReader":
        """A reader for one answer."""
        return ActionReader(use, self._intents)


class ActionReader:
    """Gives each call when its action is whole."""

    def __init__(self, use: ToolUse, intents: Intents) -> None:
        self._use = use
        self._intents = intents
        self._objects = JsonObjects()
        self._raw = ""  # until an object is whole
        self._num_actions = 0
        self._num_calls = 0

    def push(self, text: str, special: str = "") -> list[Piece]:
        """See `Reader`."""
        del special
        if self._objects.is_broken:
            return [text] if text else []
        if self._num_actions == 0:
            self._raw += text
        pieces: list[Piece] = []
        for raw in self._objects.push(text):
            self._num_actions += 1
            call = self._call(json.loads(raw))
            if call is not None:
                self._num_calls += 1
                pieces.append(call)
        if self._objects.is_broken and self._num_actions == 0:
            return [self._raw]
        return [*pieces, *self._line()]

    def finish(self) -> list[Piece]:
        """Actions that no tool can do are answered for."""
        if self._num_actions and not self._num_calls:
            return [CANNOT]
        return []

    def _line(self) -> list[Piece]:
        """The line for the user, where there is no action."""
        if not self._objects.is_closed or self._num_actions:
            return []
        line, self._objects.rest = self._objects.rest.lstrip("\n"), ""
        return [line] if line else []

    def _call(self, found: Mapping[str, Any]) -> Call | None:
        if "name" in found:
            return call_of(found, self._use, "arguments")
        return self._intents.call(found)


def _done(intents: Intents, since: Sequence[Message]) -> list[dict[str, Any]]:
    """The actions of the calls that succeeded, in their order."""
    calls: list[Mapping[str, Any]] = []
    results: list[Message] = []
    for message in since:
        found = message.get("tool_calls")
        if isinstance(found, Sequence):
            calls += cast("Sequence[Mapping[str, Any]]", found)
        if message.get("role") == "tool":
            results.append(message)
    by_id = {one.get("tool_call_id"): one for one in results if one.get("tool_call_id")}
    done: list[dict[str, Any]] = []
    for number, call in enumerate(calls):
        result = by_id.get(call.get("id")) or (results[number] if number < len(results) else None)
        function: Mapping[str, Any] = call.get("function") or {}
        arguments: object = function.get("arguments")
        if result is None or _has_failed(result) or not isinstance(arguments, Mapping):
            continue
        action = intents.action(Call(str(function.get("name")), cast("Mapping[str, Any]", arguments)))
        done += [] if action is None else [action]
    return done


def _has_failed(result: Message) -> bool:
    found: object = None
    with suppress(ValueError, RecursionError):
        found = json.loads(str(result.get("content")))
    if not isinstance(found, Mapping):
        return False
    fields = cast("Mapping[str, Any]", found)
    inner: Any = fields.get("data")
    inside = cast("Mapping[str, Any]", inner) if isinstance(inner, Mapping) else {}
    return any(one.get("error") or one.get("response_type") == "error" for one in (fields, inside))


def _compact(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
