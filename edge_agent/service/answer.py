"""One ask that was taken, from its place in the queue to its report.

Law: it is generated as fast as the models can, not as fast as it is read, so a slow reader holds up no one.
What is not read yet is kept: at most `max_tokens` tokens.
"""

import asyncio
import secrets
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field

from edge_agent.agent import EdgeAgent
from edge_agent.generation.events import Emitted
from edge_agent.generation.generation import Generation
from edge_agent.report import Report


@dataclass(eq=False)
class Answer:
    """Iterate over `events()` once; leaving early ends the answer. `report` is there after the last event."""

    agent: EdgeAgent
    generation: Generation
    way: str  # in which it was asked: "http", "mqtt" ...
    id: str = field(default_factory=lambda: secrets.token_hex(8))
    asked_at: float = field(default_factory=time.time)  # Unix time
    report: Report | None = None
    error: Exception | None = None  # what `events` raises at the end
    is_cancelled: bool = False
    ended_because: str | None = None  # the reason that was given when it was cancelled
    _events: asyncio.Queue[Emitted | None] = field(default_factory=asyncio.Queue)
    _task: asyncio.Task[None] | None = None

    @property
    def failure(self) -> str | None:
        """Why it ended early, in one line for a person; None while it runs and when it did not."""
        if self.error is not None:
            return str(self.error)
        failure = self.generation.failure
        return self.ended_because if failure is None else self.agent.explain(failure)

    @property
    def has_unread(self) -> bool:
        """Whether `events` has something to yield at once."""
        return not self._events.empty()

    def begin(self) -> "asyncio.Task[None]":
        """Generate it, in a task that ends with it and raises nothing; call once."""
        self._task = asyncio.create_task(self._generate(), name=f"answer {self.id}")
        self._task.add_done_callback(self._finish)  # also when it is cancelled before its first step
        return self._task

    def cancel(self, because: str | None = None) -> None:
        """End it here: its events end, and its report has the text so far.

        `because` makes that a failure, for those who did not ask for the end.
        """
        if self._task is not None and self.report is None:
            self.is_cancelled = True
            self.ended_because = self.ended_because or because
            self._task.cancel()

    async def events(self) -> AsyncGenerator[Emitted]:
        """As `Generation.events`: raises AgentError, but not for what `failure` has at the end."""
        async with aclosing(self.paced(None)) as events:
            async for event in events:
                if event is not None:
                    yield event

    async def paced(self, seconds: float | None) -> AsyncGenerator[Emitted | None]:
        """As `events`, with a None whenever nothing has happened for so many seconds."""
        try:
            while True:
                try:
                    async with asyncio.timeout(None if self.has_unread else seconds):
                        event = await self._events.get()
                except TimeoutError:
                    yield None
                    continue
                if event is None:
                    break
                yield event
        finally:
            self.cancel()
        if self.error is not None:
            raise self.error

    async def _generate(self) -> None:
        try:
            async for event in self.generation.events():
                self._events.put_nowait(event)
        except asyncio.CancelledError:
            self.is_cancelled = True
        except Exception as error:  # noqa: BLE001 - raised where it is read
            self.error = error

    def _finish(self, _task: "asyncio.Task[None]") -> None:
        self.report = Report.of(self.generation, self.agent.risk)
        self._events.put_nowait(None)
