"""One generation: the session's state machine joined with the draft model, the link and the text.

Law: it decides nothing; it runs what the session wants next and hands over what has become final. Answers are
taken in while the draft model works; a draft for a text that has changed meanwhile is dropped.
"""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, aclosing
from dataclasses import dataclass, field
from enum import Enum
from typing import TypeAlias

from common.process.log import about
from common.process.model_thread import ModelThread
from common.protocol.messages import ToDevice
from edge_agent.generation.drafting import Drafted, Drafting, NextTokenModel
from edge_agent.generation.emission import Emission, Emitted, Token
from edge_agent.policy.policy import Policy
from edge_agent.session.session import EdgeSession, Outgoing
from edge_agent.session.transcript import FinalToken
from edge_agent.text.tokenizer import StopStrings, TextStream

_log = logging.getLogger(__name__)


class LinkEvent(Enum):
    """What the link tells beside messages."""

    NO_WORKER = "nobody listens on the pool's open topic"
    FORBIDDEN = "the broker does not let this device publish to the pool; check its access rights"
    DOWN = "the broker cannot be reached"
    UP = "the broker is reached again"


Event: TypeAlias = ToDevice | LinkEvent | Drafted


@dataclass(slots=True)
class Clock:
    """Where the time of a generation went, in seconds; `waiting` is what the draft model was idle for."""

    drafting: float = 0.0
    waiting: float = 0.0
    total: float = 0.0
    first_token: float | None = None


@dataclass(slots=True)
class Generation:
    """`async for token in generation`, or over `events()`, once; `session`, `clock`, `text` then tell more.

    `turn` is entered for as long as it lasts (one model, one generation at a time), `send` publishes a
    message, `inbox` receives what comes for this session, from the link and from the draft model. `name` is
    the session's in topics and logs.
    """

    name: str
    session: EdgeSession
    policy: Policy
    model: NextTokenModel
    thread: ModelThread
    turn: Callable[[], AbstractAsyncContextManager[None]]
    send: Callable[[Outgoing], Awaitable[None]]
    inbox: "asyncio.Queue[Event]"
    stream: TextStream
    stops: StopStrings
    vocab_size: int
    text: str = ""
    clock: Clock = field(default_factory=Clock)
    _told_of: float | None = None  # when the last answer came before a silence that was logged

    @property
    def failure(self) -> str | None:
        """Why it ended early, as a sentence; None when it did not."""
        return self.session.failure

    async def __aiter__(self) -> AsyncIterator[Token]:
        async with aclosing(self.events()) as events:
            async for event in events:
                if isinstance(event, Token):
                    yield event

    async def events(self) -> AsyncGenerator[Emitted]:
        """As the iteration, but each token is also a `Tentative` at once, with a `Retraction` if it falls."""
        async with self.turn():
            began = time.monotonic()
            drafting = Drafting(self.model, self.thread, self.policy, self.vocab_size, self.inbox.put_nowait)
            try:
                async with aclosing(self._events(drafting, began)) as events:
                    async for event in events:
                        yield event
            finally:
                self.session.stop()  # does nothing when it has finished
                try:
                    await self._transmit()
                    self.clock.total = time.monotonic() - began
                finally:
                    await drafting.returned()

    async def _events(self, drafting: Drafting, began: float) -> AsyncGenerator[Emitted]:
        emission = Emission(self.stream, self.stops)
        async with aclosing(self._steps(drafting)) as steps:
            async for finals in steps:
                for event in emission.update(finals, self.session.tentative):
                    if isinstance(event, Token):
                        self.text += event.text
                        self.clock.first_token = self.clock.first_token or time.monotonic() - began
                    yield event
                if emission.stopped:
                    self.session.stop()
        for event in emission.finish():
            self.text += event.text if isinstance(event, Token) else ""
            yield event

    async def _steps(self, drafting: Drafting) -> AsyncGenerator[list[FinalToken]]:
        """What each step of the session made final."""
        session = self.session
        session.start(time.monotonic())
        while True:
            if session.wants_draft and not drafting.running:
                drafting.begin(session.tokens)
            await self._transmit()
            yield session.take_final()
            if session.finished:
                return
            await self._wait(drafting)
            while not self.inbox.empty():
                self._hand_over(self.inbox.get_nowait())
            session.tick(time.monotonic())
            self._tell_of_silence(time.monotonic())

    async def _transmit(self) -> None:
        for outgoing in self.session.take_outgoing():
            await self.send(outgoing)

    async def _wait(self, drafting: Drafting) -> None:
        """Until something arrives, the session's deadline passes or the log has to tell something."""
        session, is_idle = self.session, not drafting.running and self.inbox.empty()
        until = session.deadline
        if until is not None and self._has_news:
            until = min(until, session.silent_from)
        elif until is None and is_idle:
            raise RuntimeError("the session waits for nothing")
        began = time.monotonic()
        try:
            async with asyncio.timeout(None if until is None else max(0.0, until - began)):
                event = await self.inbox.get()
        except TimeoutError:
            return
        finally:
            self.clock.waiting += is_idle * (time.monotonic() - began)
        self._hand_over(event)

    @property
    def _has_news(self) -> bool:
        """Whether an answer has come since a silence was logged."""
        return self._told_of != self.session.cloud.answered_at

    def _tell_of_silence(self, now: float) -> None:
        """Log it once for each time that the session waits in vain, and goes on waiting."""
        if self._has_news and now >= self.session.silent_from:
            self._told_of = self.session.cloud.answered_at
            with about(session=self.name):
                _log.warning("still asking: %s", self.session.cloud.complaint)

    def _hand_over(self, event: Event) -> None:
        now = time.monotonic()
        match event:
            case Drafted():
                self._take(event, now)
            case LinkEvent.NO_WORKER:
                self.session.no_worker(now)
            case LinkEvent.FORBIDDEN:
                self.session.fail(event.value)
            case LinkEvent.DOWN:
                self.session.disconnected(now)
            case LinkEvent.UP:
                self.session.reconnected(now)
            case _:
                self.session.receive(event, now)

    def _take(self, drafted: Drafted, now: float) -> None:
        """Propose what was drafted, unless the text has changed since."""
        self.clock.drafting += drafted.seconds
        if isinstance(drafted.outcome, BaseException):
            raise drafted.outcome
        if self.session.wants_draft and self.session.tokens == drafted.tokens:
            self.session.propose(drafted.outcome, now, drafted.seconds)
