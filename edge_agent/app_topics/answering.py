"""Follows one answer from its first token to its end, and makes the messages for the app that asked.

Law: the app gets one answer for its ask, complete or with an error.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from common.link import ReplyTo
from edge_agent.app_topics.asks import Id
from edge_agent.app_topics.json_objects import Object
from edge_agent.app_topics.messages import answer as answer_message
from edge_agent.app_topics.token_batches import TokenBatches
from edge_agent.errors import AgentError
from edge_agent.generation.events import Token
from edge_agent.service.answer import Answer
from edge_agent.service.facts import report_fields

SendTokens: TypeAlias = Callable[[Object], None]


@dataclass(frozen=True, slots=True, eq=False)
class Asked:
    """An ask that is being answered; `key` tells it from others, `num_connects` from when it was taken."""

    id: Id
    key: str | None
    reply: ReplyTo | None
    num_echoes: int
    num_connects: int
    answer: Answer
    is_json: bool = False  # as the ask wants it


async def followed(asked: Asked, send_tokens: SendTokens | None) -> Object:
    """Wait for the end, sending tokens meanwhile if they are wanted; returns the message of the answer."""
    answer = asked.answer
    stream = None if send_tokens is None else _Stream(send_tokens)
    try:
        async for event in answer.events():
            if stream is not None and isinstance(event, Token):
                stream.add(event)
    except AgentError:
        pass  # `failure` has it
    finally:
        if stream is not None:
            stream.flush()
    text, is_json = answer.generation.text, asked.is_json
    return answer_message(asked.id, text, answer.failure, _facts(answer), is_json=is_json)


def _facts(answer: Answer) -> Object:
    assert answer.report is not None  # its events have ended
    reason = answer.report.finish_reason
    if answer.failure is not None:
        reason = "error"
    elif answer.is_cancelled:
        reason = "cancelled"
    return {**report_fields(answer), "finish_reason": reason}


class _Stream:
    """Sends batches when they are due."""

    def __init__(self, send: SendTokens) -> None:
        self._send = send
        self._batches = TokenBatches()
        self._timer: asyncio.TimerHandle | None = None

    def add(self, token: Token) -> None:
        delay = self._batches.add(token.text, token.fate, time.monotonic())
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(delay, self.flush)

    def flush(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        batch = self._batches.take(time.monotonic())
        if batch is not None:
            self._send(batch)
