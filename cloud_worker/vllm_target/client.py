"""The connection to a vLLM server: many requests at once over connections that are kept.

Law: a server that cannot be reached, is starting, or answers with an error of its own is `EngineLostError`,
never the fault of a session. What it refuses as wrong (HTTP 400) is `RefusedError`.
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Any, Self

import aiohttp

from cloud_worker.engines.engine import EngineLostError
from cloud_worker.vllm_target.http_api import MAX_IDS_AT_ONCE, reply, request
from cloud_worker.vllm_target.questions import Question, Reply

CONNECT_SECONDS = 5.0
ANSWER_SECONDS = 180.0  # a server may compile kernels for its first requests; one that hangs is lost
MAX_REQUESTS = 512  # in flight: what a server of vLLM runs at once by default is half of it
REFUSED = (400, 413, 422)
NOT_ALLOWED = (401, 403)
MAX_QUOTED = 200  # characters of a server's message


class RefusedError(Exception):
    """The server understands the request and does not serve it; its own message, one line."""


class Client:
    """Asks one server; enter it in the event loop that asks."""

    def __init__(self, url: str, key: str | None = None) -> None:
        """`url` is the server's root, with or without /v1; `key` is its `--api-key`."""
        self._root = url.rstrip("/").removesuffix("/v1")
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._session: aiohttp.ClientSession | None = None
        self.model = ""  # the name that the server has for the target model
        self.padding: tuple[int, ...] = ()  # ids beyond the vocabulary, which no sample may be

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=MAX_REQUESTS),
            timeout=aiohttp.ClientTimeout(total=ANSWER_SECONDS, sock_connect=CONNECT_SECONDS),
            headers=self._headers,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def ask(self, tokens: Sequence[int], question: Question) -> Reply:
        """The answer to a question about a sequence that begins with `tokens`."""
        beginning = tokens[: question.length]
        question = replace(question, avoided=(*self.padding, *question.avoided))
        pieces = [
            question.ids[start : start + MAX_IDS_AT_ONCE]
            for start in range(0, max(1, len(question.ids)), MAX_IDS_AT_ONCE)
        ]
        replies = [await self._ask(beginning, question, ids) for ids in pieces]
        probs = tuple(prob for one in replies for prob in one.probs)
        return Reply(replies[0].samples, probs)

    async def _ask(self, tokens: Sequence[int], question: Question, ids: Sequence[int]) -> Reply:
        answer = await self.post("/v1/completions", request(self.model, tokens, question, ids))
        return reply(answer, question.num_samples, ids)

    async def get(self, path: str) -> Any:
        """What the server has at a path; None if it has no such path."""
        return await self._call("GET", path, None)

    async def post(self, path: str, body: Mapping[str, Any]) -> Any:
        """The server's answer to a JSON body; None if it has no such path."""
        return await self._call("POST", path, body)

    async def _call(self, method: str, path: str, body: Mapping[str, Any] | None) -> Any:
        if self._session is None:
            raise RuntimeError("the client is not open")
        try:
            async with self._session.request(method, self._root + path, json=body) as response:
                status, text = response.status, await response.text(errors="replace")
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise EngineLostError(f"no answer from {self._root} ({_reason(error)})") from error
        if status == 200:
            return _parsed(text, self._root)
        if status == 404:
            return None
        if status in REFUSED:
            raise RefusedError(_message(text))
        if status in NOT_ALLOWED:
            raise EngineLostError(
                f"{self._root} does not accept the key (HTTP {status}): set `engine_key_file`"
            )
        raise EngineLostError(f"{self._root} answers with HTTP {status}: {_message(text)}")


def _parsed(text: str, root: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise EngineLostError(f"{root} does not answer in JSON: is it a vLLM server?") from error


def _reason(error: Exception) -> str:
    """Why there is no answer, in a few words."""
    if isinstance(error, TimeoutError) and not isinstance(error, aiohttp.ServerTimeoutError):
        return f"within {ANSWER_SECONDS:g} s"
    cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    if isinstance(cause, OSError) and cause.errno:
        return os.strerror(cause.errno).lower()
    return (str(cause) or type(cause).__name__).splitlines()[0]


def _message(text: str) -> str:
    """The message of an error of vLLM, or the beginning of what it is instead."""
    try:
        message = str(json.loads(text)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        message = text
    return " ".join(message.split())[:MAX_QUOTED] or "no message"
