"""Commands to the plugin of a running broker, over the encrypted listener that every client uses.

Why not through its file: the broker reads that only when it starts, and overwrites it. Why not with
mosquitto_ctrl: it takes passwords on its command line, where everyone on the machine can see them.
"""

import asyncio
import json
import secrets
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import cast

from common.link import Delivery, Link, LinkSettings
from mosquitto.provisioning import ProvisionError
from mosquitto.provisioning.state import CONTROL, RESPONSE, Json

TIMEOUT = 10.0


class Control:
    """The administrator's connection; use `connected`."""

    def __init__(self, link: Link) -> None:
        self._link = link

    @classmethod
    @asynccontextmanager
    async def connected(cls, settings: LinkSettings) -> AsyncGenerator["Control"]:
        """Connect as administrator; LinkError if that fails."""
        async with Link(settings, subscriptions=[RESPONSE]) as link:
            yield cls(link)

    async def do(self, *commands: Json) -> list[Json]:
        """Run the commands in order; returns the answers. The first error is a ProvisionError."""
        answers = await self.attempt(*commands)
        for answer in answers:
            check(answer)
        return answers

    async def attempt(self, *commands: Json) -> list[Json]:
        """Run the commands in order; returns the answers, errors included."""
        token = secrets.token_hex(8)
        await self.send(*(command | {"correlationData": token} for command in commands))
        try:
            async with asyncio.timeout(TIMEOUT):
                return await self._answers(token)
        except TimeoutError as error:
            raise ProvisionError(
                f"no answer from the broker within {TIMEOUT:g} s: `provision list` shows what was done"
            ) from error

    async def send(self, *commands: Json) -> None:
        """Send the commands without waiting for an answer."""
        payload = json.dumps({"commands": commands}).encode()
        match await self._link.send(CONTROL, payload, qos=1):
            case Delivery.REFUSED:
                raise ProvisionError("the broker does not let this account manage others")
            case Delivery.BUSY | Delivery.INVALID | Delivery.TOO_LARGE as outcome:
                raise ProvisionError(f"the broker did not take the command ({outcome.name.lower()})")
            case _:
                pass  # without an acknowledgement, the answer shows whether it arrived

    async def clear(self, topics: Sequence[str]) -> None:
        """Remove retained messages."""
        for topic in topics:
            await self._link.send(topic, b"", qos=1, retain=True)

    async def _answers(self, token: str) -> list[Json]:
        while True:
            received = await self._link.receive()
            answers = cast("list[Json]", json.loads(received.payload)["responses"])
            if all(answer.get("correlationData") == token for answer in answers):
                return answers


def check(answer: Json) -> None:
    """Raise ProvisionError if the answer to a command is an error."""
    if "error" in answer:
        raise ProvisionError(f"the broker refused {answer['command']}: {answer['error']}")
