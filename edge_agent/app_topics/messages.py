"""The JSON that the agent sends to apps, as in docs/asyncapi.yaml. Pure.

Law: text of a model or a user is only ever a value in it. Every object can be written as JSON: no NaN, and
nothing that is not Unicode.
"""

from typing import Any

from edge_agent.app_topics.asks import Id
from edge_agent.app_topics.json_objects import Object, read_value

MAX_EXCERPT = 255  # characters of an answer in an event: what Home Assistant takes as a state


def answer(id: Id, text: str, failure: str | None, facts: Object, *, is_json: bool = False) -> Object:
    """The answer to an ask; `facts` are those of its report (`edge_agent.service.facts`).

    `is_json`: the ask wants JSON. It has a value then, unless the answer was cut off.
    """
    return {
        "id": id,
        "text": _unicode(text),
        "json": read_value(text) if is_json else None,
        "finish_reason": facts["finish_reason"],
        "error": None if failure is None else _unicode(failure),
        "fates": {fate: count for fate, count in facts["num_by_fate"].items() if count},
        "num_tokens": facts["num_tokens"],
        "num_uplinks": facts["num_uplinks"],
        "bytes_up": facts["bytes_up"],
        "bytes_down": facts["bytes_down"],
        "seconds": round(facts["seconds"], 3),
        "measured_risk": facts["measured_risk"],
        "worker": facts["worker"],
        "scheme": facts["scheme"],
        "seed": facts["seed"],
    }


def refused_answer(id: Id | None, reason: str) -> Object:
    """In place of an answer, for an ask that is not answered."""
    return {
        "id": id,
        "text": "",
        "finish_reason": "error",
        "error": _unicode(reason),
        "fates": {},
        "num_tokens": 0,
    }


def event(event_type: str, id: Id | None = None, **more: Any) -> Object:
    """Something that has happened."""
    return {"event_type": event_type, **({} if id is None else {"id": id}), **more}


def answered_event(sent: Object) -> Object:
    """That an answer was given, with its beginning."""
    facts = {key: sent[key] for key in ("finish_reason", "error", "num_tokens")}
    return event("answered", sent["id"], text=sent["text"][:MAX_EXCERPT], **facts)


def refused_event(reason: str, id: Id | None = None, topic: str | None = None) -> Object:
    """That a message has no effect, and why."""
    return event("refused", id, error=_unicode(reason), **({} if topic is None else {"topic": topic}))


def _unicode(text: str) -> str:
    return text.encode("utf-8", "replace").decode()
