"""What an app asks: a JSON object, or plain text, which is a prompt. Pure.

Law: every field that is used has been checked for its type here; ranges are those of the settings of the same
names (`edge_agent.options`). A field that is unknown is ignored, one that is known and cannot be honoured is
a refusal.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias, cast

from common.protocol.grammar import Grammar, GrammarKind
from common.protocol.limits import MAX_APP_PAYLOAD_BYTES
from common.protocol.topics import MAX_ASK_ID_LENGTH, is_ask_id
from edge_agent.app_topics.json_objects import Object, read_object_or_text
from edge_agent.app_topics.refusal import EchoError, RefusalError
from edge_agent.formats import FORMATS, grammar_of
from edge_agent.json_fields import JsonFields

MAX_ID_CHARACTERS = 128
MAX_MESSAGES = 256
MAX_STOPS = 16

Id: TypeAlias = str | int
Prompt: TypeAlias = str | Sequence[Mapping[str, str]]  # the messages have a role and a content
Options: TypeAlias = dict[str, Any]  # as `edge_agent.options.Options`

_INTEGERS = ("seed", "top_k", "max_tokens")
_NUMBERS = (
    "threshold",
    "risk",
    "temperature",
    "top_p",
    "min_p",
    "repetition_penalty",
    "presence_penalty",
    "frequency_penalty",
)
_TEXTS = ("system", "scheme", "on_cloud_loss")
_MARKS_OF_OURS = ("event_type", "finish_reason", "fate", "busy", "uplinks")  # each is in one kind of message
_UNSUPPORTED = {
    "response_format": "use 'format'",
    **dict.fromkeys(("tools", "logit_bias", "images"), "leave it out"),
}


class _Fields(JsonFields):
    """The fields of a message of an app."""

    def refusal(self, message: str, name: str) -> RefusalError:  # noqa: ARG002 - the message has it
        """A refusal."""
        return RefusalError(message)


@dataclass(frozen=True, slots=True)
class Ask:
    """One ask; without an `id` the agent gives it one."""

    prompt: Prompt
    id: Id | None = None
    streams: bool = False
    options: Options = field(default_factory=dict)

    @property
    def wants_json(self) -> bool:
        """Whether its answer must be JSON."""
        grammar: Grammar | None = self.options.get("grammar")
        return grammar is not None and grammar.kind is GrammarKind.JSON_SCHEMA


def parse_ask(payload: bytes) -> Ask:
    """Read an ask; RefusalError for what cannot be answered, with the id where that could be read."""
    found = read_object_or_text(payload)
    if isinstance(found, str):
        if not found.strip():
            raise RefusalError("the ask is empty: send a prompt")
        return Ask(found)
    if not {"prompt", "messages"} & found.keys() and any(mark in found for mark in _MARKS_OF_OURS):
        raise EchoError("a message of the agent came back as an ask")
    id = parse_id(found)
    try:
        streams = _Fields(found).flag("stream")
        if streams and id is None:
            raise RefusalError("'stream' needs an 'id': tokens are sent on a topic that ends with it")
        if streams and not is_ask_id(str(id)):
            raise RefusalError(
                f"with 'stream' the 'id' is part of a topic: use 1 to {MAX_ASK_ID_LENGTH} of A-Za-z0-9_-"
            )
        return Ask(_prompt(found), id, streams, parse_options(found))
    except RefusalError as error:
        raise RefusalError(str(error), id) from error


def parse_id(found: Object) -> Id | None:
    """The id that an app gave; RefusalError for one that cannot be one."""
    id: object = found.get("id")
    if id is None:
        return None
    if isinstance(id, bool) or not isinstance(id, str | int):
        raise RefusalError("'id' must be a text or a whole number")
    if isinstance(id, str) and not 1 <= len(id) <= MAX_ID_CHARACTERS:
        raise RefusalError(f"'id' must have 1 to {MAX_ID_CHARACTERS} characters")
    return id


def parse_options(found: Object) -> Options:
    """The fields that are options of an answer; null is as absent."""
    fields = _Fields(found)
    for name, instead in _UNSUPPORTED.items():
        if found.get(name) is not None:
            raise RefusalError(f"'{name}' is not supported: {instead}")
    options: Options = {
        **{name: fields.whole(name) for name in _INTEGERS},
        **{name: fields.number(name) for name in _NUMBERS},
        **{name: fields.text(name) for name in _TEXTS},
        "raw": fields.switch("raw"),
        "template_vars": fields.object("template_vars"),
        "stop": fields.texts("stop", most=MAX_STOPS, most_characters=MAX_APP_PAYLOAD_BYTES),
        "grammar": grammar_of(fields, FORMATS),
    }
    return {name: value for name, value in options.items() if value is not None}


def _prompt(found: Object) -> Prompt:
    prompt, messages = found.get("prompt"), found.get("messages")
    if isinstance(prompt, str) and messages is None:
        if not prompt.strip():
            raise RefusalError("the ask is empty: send a prompt")
        return prompt
    if prompt is None and messages is not None:
        return _messages(messages)
    raise RefusalError("an ask has either 'prompt', a text, or 'messages', a list as in OpenAI's API")


def _messages(found: object) -> Prompt:
    if not isinstance(found, list) or not 1 <= len(cast("list[object]", found)) <= MAX_MESSAGES:
        raise RefusalError(f"'messages' must be a list of 1 to {MAX_MESSAGES} objects")
    messages: list[dict[str, str]] = []
    for one in cast("list[object]", found):
        message = cast("Object", one) if isinstance(one, dict) else {}
        role, content = message.get("role"), message.get("content")
        if not isinstance(role, str) or not isinstance(content, str):
            raise RefusalError("each of 'messages' must have 'role' and 'content', both texts")
        messages.append({"role": role, "content": content})
    return messages
