"""Sends answers: whole, or as a stream while they are generated.

Law: a client that goes away ends its answer at once, also while it waits in the queue. A stream gives its
status only when the first thing is known, so what fails before has the status of an error.
"""

import asyncio
import logging
from collections.abc import Coroutine, Mapping
from contextlib import aclosing

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from edge_agent.errors import AgentError
from edge_agent.http.answers.forms import Form, as_json
from edge_agent.http.api_errors import ApiError, of_error, of_failure
from edge_agent.service.answer import Answer
from edge_agent.service.service import Service

HEARTBEAT = 10.0  # seconds after which a stream shows that it is alive
_STREAMED = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}  # proxies pass it on as it comes

_log = logging.getLogger(__name__)


def json_response(value: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """JSON that no cache keeps."""
    return Response(
        as_json(value),
        status,
        {"Cache-Control": "no-store", **(headers or {})},
        media_type="application/json",
    )


def error_response(problem: ApiError, body: object | None = None) -> Response:
    """An error; `body` in place of OpenAI's form."""
    headers = {} if problem.retry_after is None else {"Retry-After": str(problem.retry_after)}
    if problem.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    if problem.status in (408, 413):
        headers["Connection"] = "close"  # the rest of the body is not read
    return json_response(problem.body() if body is None else body, problem.status, headers)


class AnswerResponse(Response):
    """One answer in a form, as a stream or whole."""

    def __init__(self, service: Service, answer: Answer, form: Form, *, streams: bool) -> None:
        super().__init__()
        self._service = service
        self._answer = answer
        self._form = form
        self._streams = streams
        self._has_started = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it; ends early when the client goes away."""
        try:
            await unless_left(receive, self._send(scope, receive, send))
        finally:
            self._answer.cancel()  # does nothing when it has ended

    async def _send(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await (self._stream(send) if self._streams else self._collect())
            problem = self._problem(None)
        except Exception as error:  # noqa: BLE001 - of the generation: an agent's, or a bug
            problem = self._problem(error)
        if self._has_started:
            end = self._form.end(self._answer) if problem is None else self._form.failed(problem)
            await send({"type": "http.response.body", "body": end, "more_body": False})
        elif problem is not None:
            await error_response(problem, self._form.refusal(problem))(scope, receive, send)
        elif self._streams:
            await self._write(send, self._form.end(self._answer), is_last=True)
        else:
            await json_response(self._form.whole(self._answer))(scope, receive, send)

    async def _collect(self) -> None:
        async with aclosing(self._answer.events()) as events:
            async for _ in events:
                pass

    async def _stream(self, send: Send) -> None:
        buffered = b""
        async with aclosing(self._answer.paced(HEARTBEAT)) as events:
            async for event in events:
                buffered += self._heartbeat() if event is None else self._form.event(event)
                if buffered and not self._answer.has_unread:
                    await self._write(send, buffered)
                    buffered = b""
        if buffered:
            await self._write(send, buffered)

    def _heartbeat(self) -> bytes:
        waits = self._service.is_waiting(self._answer)
        return self._form.waiting(self._service.num_before(self._answer) if waits else None)

    async def _write(self, send: Send, body: bytes, *, is_last: bool = False) -> None:
        if not self._has_started:
            self._has_started = True
            kind = self._form.content_type.encode()
            headers = [(name.lower().encode(), value.encode()) for name, value in _STREAMED.items()]
            headers.append((b"content-type", kind))
            await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body, "more_body": not is_last})

    def _problem(self, error: Exception | None) -> ApiError | None:
        if error is not None:
            if not isinstance(error, AgentError):
                log_bug(error, "an answer")
            return of_error(error)
        failure = self._answer.failure
        if failure is None:
            return None
        return of_failure(failure, was_ended=self._answer.ended_because is not None)


def log_bug(error: BaseException, what: str) -> None:
    """One line about an error that should not have happened; its traceback only for developers."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    where = "" if trace is None else f" at {trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}"
    _log.error("%s failed: %s: %s%s", what, type(error).__name__, error, where)
    _log.debug("its traceback", exc_info=error)


async def unless_left(receive: Receive, work: Coroutine[object, object, None]) -> bool:
    """Do `work` until the client closes the connection; whether it was done. Raises what it raises."""
    working = asyncio.create_task(work, name="reply")
    leaving = asyncio.create_task(_left(receive), name="watch")
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (working, leaving):
            task.cancel()
        await asyncio.wait({working, leaving})
    if working.cancelled():
        return False
    working.result()
    return True


async def _left(receive: Receive) -> None:
    """Return when the client has closed the connection."""
    while (await receive())["type"] != "http.disconnect":
        pass
