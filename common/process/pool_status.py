"""The workers of a pool, from the statuses that the broker retains; `cloud-worker status` shows them.

Law: it only reads. It needs an account of its own that may subscribe to `{root}/worker/+`: with a worker's
account it would disconnect that worker where the broker identifies clients by account.
"""

import asyncio
import logging
import secrets

from common.link import Link
from common.process.broker_config import BrokerConfig
from common.protocol.topics import Topics
from common.protocol.worker_status import Status, read_status

QUIET = 0.5  # seconds without a further status after which every retained one has arrived
PATIENCE = 10.0  # seconds at most, for a pool whose statuses never stop coming

_log = logging.getLogger(__name__)


async def pool_statuses(config: BrokerConfig) -> dict[str, Status]:
    """The status of every worker of the pool by name; LinkError when the broker cannot be reached."""
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
                _log.warning("ignored the retained message on %s: %s", received.topic, error)
    return {name: one for name, one in sorted(statuses.items()) if one.pool == config.pool}
