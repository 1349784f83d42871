"""`cloud-worker status`: the workers of a pool, from the statuses that the broker retains.

Law: it only listens. It needs an account of its own that may subscribe to `{root}/worker/+`; a worker's own
would push that worker off a broker where a client is known by its account.
"""

import asyncio
import json
import logging
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import asdict

from cloud_worker.monitoring.presence import State, Status, read_status
from common.link import Link
from common.process.broker_config import BrokerConfig
from common.protocol.topics import Topics

QUIET = 0.5  # seconds without a further status after which all retained ones are here
PATIENCE = 10.0  # seconds at most, for a pool whose statuses never stop coming

_HEADINGS = ("WORKER", "STATE", "SESSIONS", "QUEUE", "BATCH", "TOKENS/S", "UPTIME", "VERSION", "MODEL")

_log = logging.getLogger(__name__)


async def pool_statuses(config: BrokerConfig) -> dict[str, Status]:
    """Every worker of the pool that the broker knows of, by name; LinkError when there is no broker."""
    topics = Topics(config.root)
    statuses: dict[str, Status] = {}
    link = Link(
        config.link_settings(f"status-{secrets.token_hex(3)}"),
        subscriptions=[topics.worker_filter()],
        wants_retained=True,
    )
    async with link:
        end = asyncio.get_running_loop().time() + PATIENCE
        while asyncio.get_running_loop().time() < end:
            try:
                async with asyncio.timeout(QUIET):
                    received = await link.receive()
            except TimeoutError:
                break
            if not received.payload:
                continue  # a status that was cleared
            try:
                statuses[topics.parse_worker(received.topic)] = read_status(received.payload)
            except ValueError as error:
                _log.warning("ignored what is retained on %s: %s", received.topic, error)
    return {name: one for name, one in sorted(statuses.items()) if one.pool == config.pool}


def is_served(statuses: Mapping[str, Status]) -> bool:
    """Whether somebody takes new sessions."""
    return any(status.state is State.ONLINE for status in statuses.values())


def as_json(statuses: Mapping[str, Status]) -> str:
    """A JSON list with an object for each worker."""
    return json.dumps([{"worker": name, **asdict(status)} for name, status in statuses.items()], indent=2)


def as_table(statuses: Mapping[str, Status]) -> str:
    """Lines for people; what a worker that is gone cannot tell is left out."""
    rows = [_HEADINGS, *(_row(name, status) for name, status in statuses.items())]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(_line(row, widths) for row in rows)


def _row(name: str, status: Status) -> tuple[str, ...]:
    numbers = (
        str(status.sessions),
        str(status.queue),
        f"{status.batch_size:.1f}",
        f"{status.tokens_per_second:.1f}",
        _duration(status.uptime),
    )
    if status.state is State.OFFLINE:
        numbers = ("-",) * len(numbers)
    return (name, status.state.value, *numbers, status.version, status.model)


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()


def _duration(seconds: float) -> str:
    """The two largest units: 3d 4h, 5m 12s."""
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days}d {hours}h"
    if hours:
        return f"{hours}h {minutes}m"
    return f"{minutes}m {seconds}s" if minutes else f"{seconds}s"
