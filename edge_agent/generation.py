"""One generation: the session's state machine joined with the draft model, the link and the text.

Law: it decides nothing; it runs what the session wants next and hands over what has become final. However
often it is cancelled, it leaves its turn only when the draft model has returned: a thread cannot be stopped,
and the model is not made for two.
"""

import asyncio
import contextvars
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, suppress
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from common.distribution import fit_vocabulary
from common.messages import ToDevice
from edge_agent.emission import Emission, Emitted, Token
from edge_agent.policy import Policy, Proposal
from edge_agent.session import EdgeSession, Outgoing
from edge_agent.text import StopStrings, TextStream
from edge_agent.transcript import FinalToken

_log = logging.getLogger(__name__)

Result = TypeVar("Result")


class NextTokenModel(Protocol):
    """What a generation asks of its draft model; `DraftModel` is the real one."""

    @property
    def max_positions(self) -> int:
        """The longest sequence."""
        ...

    def logits(self, tokens: Sequence[int]) -> npt.NDArray[np.float32]:
        """The logits [width] of the token that follows `tokens`, the whole sequence."""
        ...


class LinkEvent(Enum):
    """What the link tells beside messages."""

    NO_WORKER = "nobody listens on the pool's open topic"
    FORBIDDEN = "the broker does not let this device publish to the pool; check its access rights"
    DOWN = "the broker cannot be reached"
    UP = "the broker is reached again"


Event: TypeAlias = ToDevice | LinkEvent


@dataclass(slots=True)
class Clock:
    """Where the time of a generation went, in seconds."""

    drafting: float = 0.0
    waiting: float = 0.0
    total: float = 0.0
    first_token: float | None = None


@dataclass(slots=True)
class Generation:
    """`async for token in generation`, or over `events()`, once; `session`, `clock`, `text` then tell more.

    `turn` is entered for as long as it lasts (one model, one generation at a time), `send` publishes a
    message, `inbox` receives what comes for this session.
    """

    session: EdgeSession
    policy: Policy
    model: NextTokenModel
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
            try:
                async with aclosing(self._events(began)) as events:
                    async for event in events:
                        yield event
            finally:
                self.session.stop()  # does nothing when it has finished
                await self._transmit()
                self.clock.total = time.monotonic() - began

    async def _events(self, began: float) -> AsyncGenerator[Emitted]:
        emission = Emission(self.stream, self.stops)
        async with aclosing(self._steps()) as steps:
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

    async def _steps(self) -> AsyncGenerator[list[FinalToken]]:
        """What each step of the session made final."""
        session = self.session
        session.start(time.monotonic())
        while True:
            await self._transmit()
            yield session.take_final()
            if session.finished:
                return
            if session.wants_draft:
                proposal, seconds = await self._draft(session.tokens)
                session.propose(proposal, time.monotonic(), seconds)
            else:
                await self._wait(session)
            while not self.inbox.empty():
                self._hand_over(self.inbox.get_nowait())
            session.tick(time.monotonic())
            self._tell_of_silence(time.monotonic())

    async def _transmit(self) -> None:
        for outgoing in self.session.take_outgoing():
            await self.send(outgoing)

    async def _draft(self, tokens: Sequence[int]) -> tuple[Proposal, float]:
        began = time.monotonic()
        proposal = await _in_thread(self._propose, list(tokens))
        seconds = time.monotonic() - began
        self.clock.drafting += seconds
        return proposal, seconds

    def _propose(self, tokens: list[int]) -> Proposal:
        logits = fit_vocabulary(self.model.logits(tokens), self.vocab_size)
        return self.policy.propose(logits, len(tokens))

    async def _wait(self, session: EdgeSession) -> None:
        """Until something arrives, the session's deadline passes or the log has to tell something."""
        if session.deadline is None:
            raise RuntimeError("the session waits for nothing")
        began = time.monotonic()
        until = min(session.deadline, session.silent_from if self._has_news else float("inf"))
        try:
            async with asyncio.timeout(max(0.0, until - began)):
                event = await self.inbox.get()
        except TimeoutError:
            return
        finally:
            self.clock.waiting += time.monotonic() - began
        self._hand_over(event)

    @property
    def _has_news(self) -> bool:
        """Whether an answer has come since a silence was logged."""
        return self._told_of != self.session.cloud.answered_at

    def _tell_of_silence(self, now: float) -> None:
        """Log it once for each time that the session waits in vain, and goes on waiting."""
        if self._has_news and now >= self.session.silent_from:
            self._told_of = self.session.cloud.answered_at
            _log.warning("still asking: %s", self.session.cloud.complaint)

    def _hand_over(self, event: Event) -> None:
        now = time.monotonic()
        match event:
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


async def _in_thread(call: Callable[[list[int]], Result], tokens: list[int]) -> Result:
    """As `asyncio.to_thread`, but that a cancel is raised only when the thread has returned."""
    loop, context = asyncio.get_running_loop(), contextvars.copy_context()
    # a plain future: asyncio.run cancels all tasks at its end, and one would be done before its thread is
    running = loop.run_in_executor(None, lambda: context.run(call, tokens))
    try:
        return await asyncio.shield(running)
    finally:
        while not running.done():
            with suppress(asyncio.CancelledError):  # one more cancel; the first goes on below
                await asyncio.wait([running])
