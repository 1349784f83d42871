"""The messages of a chat, as clients of OpenAI's and Ollama's APIs send them.

Law: a message reaches the chat template with plain texts only; a part that is not text is refused.
"""

import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, cast

from edge_agent.http.api_errors import invalid
from edge_agent.http.requests.fields import Fields
from edge_agent.json_fields import Json
from edge_agent.text.prompts import Message

ROLES = ("system", "developer", "user", "assistant", "tool", "function")
MAX_MESSAGES = 4096


def messages_of(fields: Fields, *, may_lack_content: bool = False) -> list[Message]:
    """The field `messages`; ApiError when it cannot be used."""
    found = fields.objects("messages")
    if not found:
        raise invalid("`messages` must be a list with at least one message", "messages")
    if len(found) > MAX_MESSAGES:
        raise invalid(f"`messages` has more than {MAX_MESSAGES} messages: leave some out", "messages")
    return [
        _message(one, f"messages[{number}].", may_lack_content=may_lack_content)
        for number, one in enumerate(found)
    ]


def _message(found: Json, at: str, *, may_lack_content: bool) -> Message:
    fields = Fields(found, at)
    role = fields.text("role")
    if role not in ROLES:
        raise fields.wrong("role", f"one of {', '.join(ROLES)}")
    if found.get("images"):
        raise invalid(f"`{at}images` cannot be used: this model reads only text", f"{at}images")
    calls = _calls(fields) if role == "assistant" else None
    message: dict[str, object] = {
        "role": "system" if role == "developer" else "tool" if role == "function" else role,
        "content": _content(fields, is_optional=may_lack_content or bool(calls)),
    }
    if calls:
        message["tool_calls"] = calls
    for name in ("name", "tool_call_id", "tool_name"):
        text = fields.text(name)
        if text is not None:
            message[name] = text
    return message


def _content(fields: Fields, *, is_optional: bool) -> str:
    content: object = fields.found.get("content")
    if isinstance(content, str):
        return content
    if content is None and is_optional:
        return ""
    if not isinstance(content, list):
        raise fields.wrong("content", "a text or a list of text parts")
    return "".join(_part(part, f"{fields.at}content") for part in cast("list[object]", content))


def _part(part: object, at: str) -> str:
    found = cast("Mapping[str, Any]", part) if isinstance(part, dict) else {}
    kind, text = found.get("type"), found.get("text")
    if kind in ("text", "input_text") and isinstance(text, str):
        return text
    if isinstance(kind, str) and kind not in ("text", "input_text"):
        raise invalid(f"`{at}` has a part of type {kind[:40]!r}: this model reads only text", at)
    raise invalid(f'`{at}` must be a text or a list of {{"type": "text", "text": ...}}', at)


def _calls(fields: Fields) -> list[object]:
    """Earlier tool calls, as chat templates read them: the arguments are an object, not JSON in a text."""
    return [_call(one) for one in fields.objects("tool_calls") or []]


def _call(found: Json) -> object:
    function: object = found.get("function")
    if not isinstance(function, dict):
        return dict(found)
    called = dict(cast("Mapping[str, Any]", function))
    if isinstance(called.get("arguments"), str):
        with suppress(ValueError, RecursionError):  # else as it is: what the model wrote then
            called["arguments"] = json.loads(called["arguments"] or "{}")
    return {**found, "function": called}
