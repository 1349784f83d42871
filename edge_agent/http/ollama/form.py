"""An answer as Ollama's API writes it: JSON lines, or one object."""

from datetime import UTC, datetime
from typing import Any

from edge_agent.generation.events import Emitted, Token
from edge_agent.http.answers.forms import as_json, finish_reason, timings
from edge_agent.http.api_errors import ApiError
from edge_agent.http.requests.asked import Asked
from edge_agent.service.answer import Answer
from edge_agent.service.facts import report_fields
from edge_agent.tools.call import Call, Piece


class OllamaForm:
    """One answer to `asked`; `is_chat` for /api/chat, else /api/generate."""

    content_type = "application/x-ndjson"

    def __init__(self, asked: Asked, answer: Answer | None = None, *, is_chat: bool) -> None:
        self._asked = asked
        self._is_chat = is_chat
        new_reading = None if answer is None else answer.generation.new_reading
        self._reading = None if new_reading is None else new_reading()

    def event(self, event: Emitted) -> bytes:
        """A line for each token with text."""
        if not isinstance(event, Token):
            return b""
        if self._reading is not None:
            return self._pieces(self._reading.push(event.text, event.token))
        if not event.text:
            return b""
        return self._line({**self._text(event.text), "done": False})

    def waiting(self, num_before: int | None) -> bytes:  # noqa: ARG002 - the API has no way to show it
        """A line without text, which keeps the connection alive."""
        return self._line({**self._text(""), "done": False})

    def end(self, answer: Answer) -> bytes:
        """The last line."""
        pieces = b"" if self._reading is None else self._pieces(self._reading.finish())
        return pieces + self._line({**self._text(""), **_outcome(answer)})

    def failed(self, error: ApiError) -> bytes:
        """A line with the error."""
        return as_json(self.refusal(error)) + b"\n"

    def whole(self, answer: Answer) -> dict[str, Any]:
        """The answer as one object."""
        shown = self._text(answer.generation.content)
        if answer.generation.calls:
            shown["message"]["tool_calls"] = list(map(_call, answer.generation.calls))
        return {**self._head(), **shown, **_outcome(answer)}

    def loaded(self) -> dict[str, Any]:
        """The answer to an empty prompt."""
        return {**self._head(), **self._text(""), "done": True, "done_reason": "load"}

    def refusal(self, error: ApiError) -> dict[str, Any]:
        """The body of an error."""
        return {"error": error.message}

    def _pieces(self, pieces: list[Piece]) -> bytes:
        return b"".join(self._line({**self._piece(piece), "done": False}) for piece in pieces)

    def _piece(self, piece: Piece) -> dict[str, Any]:
        if isinstance(piece, str):
            return self._text(piece)
        return {"message": {"role": "assistant", "content": "", "tool_calls": [_call(piece)]}}

    def _text(self, text: str) -> dict[str, Any]:
        return {"message": {"role": "assistant", "content": text}} if self._is_chat else {"response": text}

    def _head(self) -> dict[str, Any]:
        return {"model": self._asked.model, "created_at": timestamp(datetime.now(UTC))}

    def _line(self, fields: dict[str, Any]) -> bytes:
        return as_json({**self._head(), **fields}) + b"\n"


def _call(call: Call) -> dict[str, Any]:
    """A call as this API has it: its arguments are an object."""
    return {"function": {"name": call.name, "arguments": call.arguments}}


def timestamp(at: datetime) -> str:
    """A moment in UTC, as Ollama writes it."""
    return at.isoformat().replace("+00:00", "Z")


def _outcome(answer: Answer) -> dict[str, Any]:
    """Why it ended and how long it took; durations in nanoseconds."""
    report, times = answer.report, timings(answer)
    assert report is not None
    return {
        "done": True,
        "done_reason": "length" if finish_reason(answer) == "length" else "stop",
        "total_duration": round(report.seconds * 1e9),
        "load_duration": 0,
        "prompt_eval_count": report.num_prompt_tokens,
        "prompt_eval_duration": round(times["prompt_ms"] * 1e6),
        "eval_count": report.num_tokens,
        "eval_duration": round(times["predicted_ms"] * 1e6),
        "hybrid_lm": report_fields(answer),
    }
