"""Carries out the audits of an agent: beside the next generation, for as long as one round trip may take.

Law: it decides nothing. An audit that the agent's end or the link's loss interrupts is given up.
"""

import asyncio
import time
from collections.abc import Callable

from edge_agent.generation.mailbox import Mailbox
from edge_agent.session.audit import Audit
from edge_agent.session.events import Drafted, LinkEvent


class Audits:
    """Those under way."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def begin(self, audit: Audit, mailbox: Mailbox, ended: Callable[[], None]) -> None:
        """Start one; `ended` is called when it is over, for any reason."""
        task = asyncio.create_task(_carry_out(audit, mailbox, ended), name="audit")
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


async def _carry_out(audit: Audit, mailbox: Mailbox, ended: Callable[[], None]) -> None:
    try:
        while True:
            for outgoing in audit.take_outgoing():
                await mailbox.send(outgoing)
            if audit.over:
                return
            for event in await mailbox.receive(audit.deadline):
                match event:
                    case LinkEvent.UP | Drafted():  # the generation may have ended before its last draft
                        pass
                    case LinkEvent():
                        audit.end()
                    case _:
                        audit.receive(event, time.monotonic())
            audit.tick(time.monotonic())
    finally:
        ended()
