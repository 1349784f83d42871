"""How an answer is written: what each API's form has to say at each moment.

Law: a stream always ends with its end or with an error, never without either.
"""

import json
from typing import Any, Protocol

from edge_agent.generation.events import Emitted
from edge_agent.http.api_errors import ApiError
from edge_agent.service.answer import Answer


class Form(Protocol):
    """Makes bytes of one answer; `content_type` is that of the stream."""

    content_type: str

    def event(self, event: Emitted) -> bytes:
        """Something that happened; empty for what this form does not show."""
        ...

    def waiting(self, num_before: int | None) -> bytes:
        """Nothing happens for a while: so many asks are before this one; None when it runs."""
        ...

    def end(self, answer: Answer) -> bytes:
        """The end of a stream, with the report."""
        ...

    def failed(self, error: ApiError) -> bytes:
        """The end of a stream that broke off."""
        ...

    def whole(self, answer: Answer) -> dict[str, Any]:
        """The answer without a stream."""
        ...

    def refusal(self, error: ApiError) -> dict[str, Any]:
        """The body of an error."""
        ...


def as_json(value: object) -> bytes:
    """Compact JSON; what is not valid Unicode, which only a client can have sent, becomes a question mark."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


def usage(answer: Answer) -> dict[str, int]:
    """The lengths of prompt and answer in tokens, as OpenAI's API has them."""
    report = answer.report
    assert report is not None
    return {
        "prompt_tokens": report.num_prompt_tokens,
        "completion_tokens": report.num_tokens,
        "total_tokens": report.num_prompt_tokens + report.num_tokens,
    }


def finish_reason(answer: Answer) -> str:
    """`stop`, `length` or `tool_calls`; an answer that a client has cancelled has stopped."""
    report = answer.report
    assert report is not None
    if answer.generation.calls and report.finish_reason != "length":
        return "tool_calls"
    return "length" if report.finish_reason == "length" else "stop"


def timings(answer: Answer) -> dict[str, float]:
    """The times of an answer under llama.cpp's names, which dashboards read."""
    report = answer.report
    assert report is not None
    first = report.seconds_to_first_token
    prompt = report.seconds if first is None else first
    predicted = max(report.seconds - prompt, 1e-6)
    num_predicted = report.num_tokens
    return {
        "prompt_n": report.num_prompt_tokens,
        "prompt_ms": round(1000 * prompt, 3),
        "prompt_per_token_ms": round(1000 * prompt / max(1, report.num_prompt_tokens), 3),
        "prompt_per_second": round(report.num_prompt_tokens / max(prompt, 1e-6), 3),
        "predicted_n": num_predicted,
        "predicted_ms": round(1000 * predicted, 3),
        "predicted_per_token_ms": round(1000 * predicted / max(1, num_predicted), 3),
        "predicted_per_second": round(num_predicted / predicted, 3),
        "draft_n": report.num_tested,
        "draft_n_accepted": report.num_accepted,
    }
