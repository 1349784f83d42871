"""Everything that is served, as one ASGI application.

Law: no request ends without an answer, and none shows a traceback: an error in the agent itself is one line
in the log and a 500 for the client. Until the agent is open, everything but the page answers `loading model`.
"""

from collections.abc import Sequence

from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import BaseRoute, Router
from starlette.types import Message, Receive, Scope, Send

from edge_agent.errors import AgentError
from edge_agent.http.access.guard import Guard
from edge_agent.http.answers.replies import error_response, log_bug
from edge_agent.http.api_errors import ApiError, bug, loading, of_error
from edge_agent.http.pool import Pool
from edge_agent.http.server.bodies import Bodies, ClientGoneError
from edge_agent.service.service import Service

_SAFE = [(b"x-content-type-options", b"nosniff"), (b"referrer-policy", b"no-referrer")]
_CORS = {
    "Access-Control-Allow-Methods": "GET, POST, OPTIONS",
    "Access-Control-Allow-Headers": "*, Authorization",
    "Access-Control-Max-Age": "600",
}


class Site:
    """An ASGI application; `service` is None until the agent is open.

    `is_private`: other machines cannot connect, or need a key.
    """

    def __init__(self, guard: Guard, *, is_private: bool = True, pool: Pool | None = None) -> None:
        self.guard = guard
        self.is_private = is_private
        self.pool = pool
        self.bodies = Bodies()
        self.service: Service | None = None
        self._router = Router()

    def route(self, routes: Sequence[BaseRoute]) -> None:
        """Serve these."""
        self._router = Router(routes=routes, redirect_slashes=False)

    def ready(self) -> Service:
        """The service; ApiError while the model is loading."""
        if self.service is None:
            raise loading()
        return self.service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        reply = _Reply(send, self._headers(scope))
        try:
            await self._answer(scope, receive, reply.send)
        except ClientGoneError:
            return
        except Exception as error:  # noqa: BLE001 - logged, and told to the client without its details
            problem = _problem(error, scope)
            if not reply.has_started:
                await error_response(problem)(scope, receive, reply.send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = _headers(scope)
        self.guard.check(scope["method"], scope["path"], headers)
        if scope["method"] == "OPTIONS":
            await Response(status_code=204, headers={"Allow": "GET, POST, OPTIONS"})(scope, receive, send)
            return
        scope["app"] = self  # so that the router raises what it does not find
        await self._router(scope, receive, send)

    def _headers(self, scope: Scope) -> list[tuple[bytes, bytes]]:
        """What every answer has; for an allowed foreign site that it may read it."""
        origin = _headers(scope).get("origin")
        if origin is None or not self.guard.allows(origin):
            return _SAFE
        cors = {"Access-Control-Allow-Origin": origin, "Vary": "Origin", **_CORS}
        return [*_SAFE, *((name.lower().encode(), value.encode()) for name, value in cors.items())]


class _Reply:
    """Sends, and knows whether the answer has begun."""

    def __init__(self, send: Send, headers: list[tuple[bytes, bytes]]) -> None:
        self.has_started = False
        self._send = send
        self._headers = headers

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.has_started = True
            message["headers"] = [*message.get("headers", []), *self._headers]
        await self._send(message)


def _headers(scope: Scope) -> dict[str, str]:
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}


def _problem(error: Exception, scope: Scope) -> ApiError:
    if isinstance(error, ApiError):
        return error
    if isinstance(error, HTTPException):
        path = scope["path"][:80]
        if error.status_code == 405:
            return ApiError(405, f"{path!r} does not take {scope['method'][:10]}", code="method_not_allowed")
        return ApiError(404, f"there is no {path!r} here", code="not_found")
    if not isinstance(error, AgentError):
        log_bug(error, f"{scope['method'][:10]} {scope['path'][:80]!r}")
        return bug()
    return of_error(error)
