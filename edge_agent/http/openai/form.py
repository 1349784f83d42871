"""An answer as OpenAI's API writes it: chunks of server-sent events, or one object.

Law: the texts of all chunks, joined, are the text of the answer. What is only ours has `choices: []` or is
under `hybrid_lm`, so that any client can skip it.
"""

import json
from typing import Any

from common.process.version import release
from edge_agent.generation.events import Emitted, Retraction, Tentative, Token
from edge_agent.http.answers.forms import as_json, finish_reason, timings, usage
from edge_agent.http.api_errors import ApiError
from edge_agent.http.requests.asked import Asked
from edge_agent.service.answer import Answer
from edge_agent.service.facts import report_fields, so_far
from edge_agent.tools.call import Call, Piece, call_id

DONE = b"data: [DONE]\n\n"


class OpenAiForm:
    """One answer to `asked`; `is_chat` for chat completions, else completions."""

    content_type = "text/event-stream; charset=utf-8"

    def __init__(self, asked: Asked, answer: Answer, *, is_chat: bool) -> None:
        self._asked = asked
        self._is_chat = is_chat
        self._kind = "chat.completion" if is_chat else "text_completion"
        self._head: dict[str, Any] = {
            "id": f"{'chatcmpl' if is_chat else 'cmpl'}-{answer.id}",
            "object": "chat.completion.chunk" if is_chat else "text_completion",
            "created": int(answer.asked_at),
            "model": asked.model,
            "system_fingerprint": f"hybrid-lm-{release()}",
        }
        self._beginning = b"data: " + as_json(self._head)[:-1]
        self._has_begun = False
        self._answer_id = answer.id
        self._generation = answer.generation
        self._num_shown = 0  # uplinks that the client knows of
        new_reading = answer.generation.new_reading
        self._reading = None if new_reading is None else new_reading()
        self._num_calls = 0

    def event(self, event: Emitted) -> bytes:
        """A chunk for each token, and for each tentative one where that is wanted."""
        match event:
            case Token(text, token, fate):
                ours = {"token": token, "fate": str(fate), **self._so_far()}
                if self._reading is None:
                    return self._chunk(self._delta(text), ours)
                return self._pieces(self._reading.push(text, token), ours)
            case Tentative(text, token) if self._asked.shows_tentative:
                return self._ours({"tentative": text, "token": token})
            case Retraction(text, num_tokens) if self._asked.shows_tentative:
                return self._ours({"retract": num_tokens, "text": text})
            case _:
                return b""

    def waiting(self, num_before: int | None) -> bytes:
        """A comment, which clients ignore and which keeps the connection alive."""
        return b": working\n\n" if num_before is None else f": waiting, {num_before} before you\n\n".encode()

    def end(self, answer: Answer) -> bytes:
        """The reason of the end with the report, the usage if wanted, and the mark of the end."""
        choice = {"index": 0, **self._empty(), "finish_reason": finish_reason(answer)}
        last = self._data(
            {"choices": [choice], "timings": timings(answer), "hybrid_lm": report_fields(answer)}
        )
        pieces = b"" if self._reading is None else self._pieces(self._reading.finish(), None)
        begin = b"" if self._has_begun or not self._is_chat else self._chunk(self._delta(""), None)
        counted = b""
        if self._asked.includes_usage:
            counted = self._data({"choices": [], "usage": usage(answer), "timings": timings(answer)})
        return pieces + begin + last + counted + DONE

    def failed(self, error: ApiError) -> bytes:
        """An error in place of the next chunk."""
        return b"data: " + as_json(error.body()) + b"\n\n"

    def whole(self, answer: Answer) -> dict[str, Any]:
        """The answer as one object."""
        report = answer.report
        assert report is not None
        text: dict[str, Any] = {"text": report.text}
        if self._is_chat:
            text = {"message": _message(answer)}
        choice = {"index": 0, **text, "logprobs": None, "finish_reason": finish_reason(answer)}
        return {
            **self._head,
            "object": self._kind,
            "choices": [choice],
            "usage": usage(answer),
            "timings": timings(answer),
            "hybrid_lm": report_fields(answer),
        }

    def refusal(self, error: ApiError) -> dict[str, Any]:
        """The body of an error."""
        return error.body()

    def _pieces(self, pieces: list[Piece], ours: dict[str, Any] | None) -> bytes:
        """A chunk for each text, and one for each call: some clients read the first call of a chunk only.

        `ours` is shown with the first; where there is none, to those who want every token.
        """
        if not pieces and ours is not None and self._asked.shows_tentative:
            return self._ours(ours)
        chunks = b""
        for piece in pieces:
            chunks += self._chunk(self._delta(piece), ours) if isinstance(piece, str) else self._call(piece)
            ours = None
        return chunks

    def _call(self, call: Call) -> bytes:
        begin = b"" if self._has_begun else self._chunk(self._delta(None), None)
        shown = {"index": self._num_calls, **call_fields(call, self._answer_id, self._num_calls)}
        self._num_calls += 1
        choice = {"index": 0, "delta": {"tool_calls": [shown]}, "finish_reason": None}
        return begin + self._data({"choices": [choice]})

    def _so_far(self) -> dict[str, Any]:
        """What the answer has sent and received, where that is shown and more has been sent."""
        num_uplinks = self._generation.session.tally.num_uplinks
        if not self._asked.shows_tentative or num_uplinks == self._num_shown:
            return {}
        self._num_shown = num_uplinks
        return {"so_far": so_far(self._generation)}

    def _delta(self, text: str | None) -> str:
        if not self._is_chat:
            return f'"text":{json.dumps(text, ensure_ascii=False)}'
        role = "" if self._has_begun else '"role":"assistant",'
        self._has_begun = True
        return f'"delta":{{{role}"content":{json.dumps(text, ensure_ascii=False)}}}'

    def _empty(self) -> dict[str, Any]:
        return {"delta": {}} if self._is_chat else {"text": ""}

    def _chunk(self, content: str, ours: dict[str, Any] | None) -> bytes:
        """One chunk, put together from parts: each token is one."""
        rest = f',"choices":[{{"index":0,{content},"finish_reason":null}}]'
        extra = b"" if ours is None else b',"hybrid_lm":' + as_json(ours)
        return self._beginning + rest.encode() + extra + b"}\n\n"

    def _ours(self, ours: dict[str, Any]) -> bytes:
        return self._data({"choices": [], "hybrid_lm": ours})

    def _data(self, fields: dict[str, Any]) -> bytes:
        return b"data: " + as_json({**self._head, **fields}) + b"\n\n"


def call_fields(call: Call, answer_id: str, number: int) -> dict[str, Any]:
    """A call as this API has it: its arguments are a text."""
    function = {"name": call.name, "arguments": call.arguments_text}
    return {"id": call_id(answer_id, number), "type": "function", "function": function}


def _message(answer: Answer) -> dict[str, Any]:
    content, calls = answer.generation.content, answer.generation.calls
    if not calls:
        return {"role": "assistant", "content": content}
    listed = [call_fields(call, answer.id, number) for number, call in enumerate(calls)]
    return {"role": "assistant", "content": content or None, "tool_calls": listed}
