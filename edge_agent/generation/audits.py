"""Run the audits of an agent, in parallel to the next generation, each for about a round trip.

Law: it decides nothing. An audit that is interrupted, as the agent ends or the link is lost, is dropped, and
so is one that cannot be sent.
"""

import asyncio
import logging
import time
from collections.abc import Callable

from edge_agent.errors import GenerationError
from edge_agent.generation.mailbox import Mailbox
from edge_agent.session.audit import Audit
from edge_agent.session.events import Connecting, Drafted, DraftFailed, LinkEvent

_log = logging.getLogger(__name__)


class Audits:
    """The audits in progress."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def begin(self, audit: Audit, mailbox: Mailbox, ended: Callable[[], None]) -> None:
        """Start one; `ended` is called when it is over, for any reason."""
        task = asyncio.create_task(_carry_out(audit, mailbox, ended), name="audit")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def finished(self) -> None:
        """Wait until all are over."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def cancel(self) -> None:
        """Drop what is in progress."""
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
                    case LinkEvent.UP | Connecting() | Drafted() | DraftFailed():  # the generation's
                        pass
                    case LinkEvent():
                        audit.end()
                    case _:
                        audit.receive(event, time.monotonic())
            audit.tick(time.monotonic())
    except GenerationError as error:  # larger than the broker takes
        _log.warning("an answer stays unmeasured: %s", error)
    finally:
        ended()
