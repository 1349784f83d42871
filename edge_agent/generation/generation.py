"""One generation: the session's state machine joined with the draft model, the link and the text.

Law: it decides nothing; it does what each step of the session asks for and yields what has become final.
Answers are taken in while the draft model works.
"""

import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable
from contextlib import AbstractAsyncContextManager, aclosing
from copy import copy
from dataclasses import dataclass, field

from common.process.log import about
from edge_agent.generation.drafting import Drafting
from edge_agent.generation.emission import Decoder, Emission
from edge_agent.generation.events import Emitted, Token
from edge_agent.generation.mailbox import Mailbox
from edge_agent.policy.policy import Policy
from edge_agent.session.events import Drafted, Event
from edge_agent.session.send_window import Outgoing
from edge_agent.session.session import EdgeSession
from edge_agent.session.step import Step, advance
from edge_agent.tools.asking import Reading
from edge_agent.tools.call import Call

READ_AHEAD_FROM = 64  # unread tokens: for fewer, the first draft goes up about as early as the prompt could

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Clock:
    """How a generation spent its time, in seconds; `waiting` is the time that the draft model was idle."""

    drafting: float = 0.0
    waiting: float = 0.0
    total: float = 0.0
    cpu: float = 0.0  # of this generation, see `edge_agent.slots.processor_time`
    first_token: float | None = None


@dataclass(slots=True)
class Generation:
    """`async for token in generation`, or over `events()`, once; `session`, `clock` and `text` have the rest.

    `turn` is entered for as long as it lasts: a generation has its sequence of the draft model for itself.
    """

    session: EdgeSession
    mailbox: Mailbox
    drafting: Drafting
    decoder: Decoder
    turn: Callable[["Generation"], AbstractAsyncContextManager[None]]
    text: str = ""
    clock: Clock = field(default_factory=Clock)
    new_reading: Callable[[], Reading] | None = None  # where it may call tools
    reading: Reading | None = None

    @property
    def policy(self) -> Policy:
        """The scheme with the numbers that this generation is run with."""
        return self.drafting.policy

    @property
    def failure(self) -> str | None:
        """Why it ended early, in one line; None when it did not."""
        return self.session.failure

    @property
    def calls(self) -> list[Call]:
        """The calls of tools so far."""
        return [] if self.reading is None else self.reading.calls

    @property
    def content(self) -> str:
        """The text for the user so far: `text` without calls."""
        return self.text if self.reading is None else self.reading.content

    def watch_prompt(self, watch: Callable[[int, int], None]) -> None:
        """Have `watch(num_read, num_tokens)` called as the draft model reads a prompt in several runs.

        Both count the tokens that are to be read: those that the last generation left in the cache are not.
        """
        self.drafting.watch = watch

    async def __aiter__(self) -> AsyncIterator[Token]:
        async with aclosing(self.events()) as events:
            async for event in events:
                if isinstance(event, Token):
                    yield event

    async def events(self) -> AsyncGenerator[Emitted]:
        """As iterating, but each token is first a `Tentative`, with a `Retraction` if it is rejected."""
        async with self.turn(self):
            began = time.monotonic()
            self.drafting.count_processor()
            try:
                async with aclosing(self._events(began)) as events:
                    async for event in events:
                        yield event
            finally:
                self.session.stop()  # does nothing when it has finished
                try:
                    await self._send(self.session.take_outgoing())
                finally:
                    self.clock.total = time.monotonic() - began
                    self.clock.cpu = self.drafting.processor_seconds()
                    await self.drafting.returned()

    async def _events(self, began: float) -> AsyncGenerator[Emitted]:
        if self.decoder.can_stop:
            self.session.stop_with(copy(self.decoder))
        emission = Emission(self.decoder)
        self.reading = None if self.new_reading is None else self.new_reading()
        async with aclosing(self._steps()) as steps:
            async for step in steps:
                for event in emission.update(step.finals, self.session.tentative):
                    if isinstance(event, Token):
                        self._take(event)
                        self.clock.first_token = self.clock.first_token or time.monotonic() - began
                    yield event
        for event in emission.finish():
            if isinstance(event, Token):
                self._take(event)
            yield event
        if self.reading is not None:
            self.reading.finish()

    def _take(self, token: Token) -> None:
        self.text += token.text
        if self.reading is not None:
            self.reading.push(token.text, token.token)

    async def _steps(self) -> AsyncGenerator[Step]:
        if self.drafting.num_unread(self.session.tokens) >= READ_AHEAD_FROM:
            self.session.read_ahead()
        step = advance(self.session, time.monotonic(), self.mailbox.arrived())
        while True:
            tokens = self.session.begin_draft()
            if tokens is not None:
                self.drafting.begin(tokens, self.mailbox.inbox.put_nowait)
            await self._send(step.messages)
            if step.silence is not None:
                with about(session=self.mailbox.name):
                    _log.warning("still asking: %s", step.silence)
            yield step
            if step.error is not None:
                raise step.error
            if self.session.finished:
                return
            events = await self._wait(step.deadline)
            step = advance(self.session, time.monotonic(), events)  # the time after the wait

    async def _send(self, messages: Iterable[Outgoing]) -> None:
        for outgoing in messages:
            await self.mailbox.send(outgoing)

    async def _wait(self, until: float | None) -> list[Event]:
        """Wait until something arrives or the deadline passes; return what has arrived."""
        is_idle, began = not self.session.awaits_draft and self.mailbox.inbox.empty(), time.monotonic()
        try:
            events = await self.mailbox.receive(until)
        finally:
            self.clock.waiting += is_idle * (time.monotonic() - began)
        self.clock.drafting += sum(event.seconds for event in events if isinstance(event, Drafted))
        return events
