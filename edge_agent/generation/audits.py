"""Carries out the audits of an agent: beside the next generation, for as long as one round trip may take.

Law: it decides nothing. An audit that the agent's end or the link's loss interrupts is given up.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable

from edge_agent.generation.drafting import Drafted
from edge_agent.generation.generation import Event, LinkEvent
from edge_agent.session.audit import Audit
from edge_agent.session.send_window import Outgoing


class Audits:
    """Those under way."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def begin(
        self,
        audit: Audit,
        inbox: "asyncio.Queue[Event]",
        send: Callable[[Outgoing], Awaitable[None]],
        ended: Callable[[], None],
    ) -> None:
        """Start one; `ended` is called when it is over, in whatever way."""
        task = asyncio.create_task(_carry_out(audit, inbox, send, ended), name="audit")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def finished(self) -> None:
        """Until all are over."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def cancel(self) -> None:
        """Give up what is under way."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def _carry_out(
    audit: Audit,
    inbox: "asyncio.Queue[Event]",
    send: Callable[[Outgoing], Awaitable[None]],
    ended: Callable[[], None],
) -> None:
    try:
        while True:
            for outgoing in audit.take_outgoing():
                await send(outgoing)
            if audit.over:
                return
            try:
                async with asyncio.timeout(max(0.0, audit.deadline - time.monotonic())):
                    event = await inbox.get()
            except TimeoutError:
                audit.tick(time.monotonic())
                continue
            match event:
                case LinkEvent.UP | Drafted():  # the generation may have ended before its last draft
                    pass
                case LinkEvent():
                    audit.end()
                case _:
                    audit.receive(event, time.monotonic())
    finally:
        ended()
