"""What can go wrong with a request, as OpenAI's API states it. Pure.

Law: a message is one line for a person: what is wrong and what to do. It never shows what went wrong inside.
"""

import re

from edge_agent.errors import (
    SHORTEN,
    AgentError,
    BusyError,
    ClosingError,
    ConfigError,
    GenerationError,
    GrammarError,
    ModelError,
    PromptError,
    PromptTooLongError,
)

_QUOTED = re.compile(r"`([a-z_]+)(?:[.\[][^`]*)?`")
_FIELDS = {"max_tokens", "temperature", "top_p", "top_k", "min_p", "seed", "stop"}  # as in the settings
_PENALTIES = {"presence_penalty", "frequency_penalty", "repetition_penalty"}
_TOOLS = {"tools", "tool_choice", "parallel_tool_calls"}
_OWN = {"scheme", "risk", "threshold", "on_cloud_loss"}


class ApiError(Exception):
    """A request that is refused, or an answer that failed."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        kind: str | None = None,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.param = param
        self.kind = kind or _KINDS.get(status, "invalid_request_error" if status < 500 else "server_error")
        self.retry_after = retry_after

    def body(self) -> dict[str, object]:
        """As OpenAI's API shows it."""
        return {"error": {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}}


_KINDS = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}


def invalid(message: str, param: str | None = None, code: str | None = None) -> ApiError:
    """A field that cannot be used."""
    return ApiError(400, message, param=param, code=code)


def unusable(error: GrammarError, field: str | None) -> ApiError:
    """A grammar that cannot be used; `field` has it."""
    return invalid(str(error), field, "invalid_grammar")


def too_large(limit: int) -> ApiError:
    """A body over the limit."""
    return ApiError(413, f"the body is larger than {limit} bytes: shorten it", code="body_too_large")


def loading() -> ApiError:
    """The agent is not ready."""
    return ApiError(503, "loading model", code="loading_model", kind="unavailable_error", retry_after=2)


def unknown_model(name: str, served: str) -> ApiError:
    """A model that is not here."""
    return ApiError(
        404, f"there is no model {name[:80]!r}: use {served}", param="model", code="model_not_found"
    )


def bug() -> ApiError:
    """Something in the agent itself; the log has it."""
    return ApiError(500, "an error inside the agent: see its log", code="internal_error")


def of_error(error: Exception, *, retry_after: int = 1) -> ApiError:
    """What an AgentError or a bug means for the request that raised it."""
    match error:
        case ApiError():
            return error
        case BusyError():
            return ApiError(429, str(error), code="queue_full", retry_after=retry_after)
        case ClosingError():
            return ApiError(503, str(error), code="stopping", retry_after=5)
        case GrammarError():
            return unusable(error, None)
        case PromptTooLongError():
            return invalid(str(error), "messages", "context_length_exceeded")
        case PromptError():
            return invalid(str(error), "messages")
        case ConfigError():
            return invalid(str(error), _param(str(error)))
        case GenerationError() if SHORTEN in str(error):
            return invalid(str(error), "messages", "context_length_exceeded")
        case GenerationError() | ModelError():
            return ApiError(500, str(error), code="generation_failed")
        case AgentError():
            return ApiError(503, str(error), code="unavailable")
        case _:
            return bug()


def of_failure(failure: str, *, was_ended: bool) -> ApiError:
    """What an answer's `failure` means; `was_ended`: by the agent, because it stops."""
    if was_ended:
        return ApiError(503, failure, code="stopping", retry_after=5)
    if SHORTEN in failure:
        return invalid(failure, "messages", "context_length_exceeded")
    return ApiError(503, failure, code="cloud_lost", retry_after=5)


def _param(message: str) -> str | None:
    """The field that a message about settings names."""
    match = _QUOTED.search(message)
    name = match[1] if match else ""
    if name in _OWN:
        return f"hybrid_lm.{name}"
    return name if name in _FIELDS | _PENALTIES | _TOOLS else None
