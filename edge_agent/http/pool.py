"""The workers of the pool, from the statuses that the broker retains.

Law: it never takes the agent's place at the broker. Where the device has an account of its own, a second
connection could end the agent's, and the account may not read statuses anyway: then it says so.
"""

import asyncio
import logging
import secrets
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import Any

from common.link import Link, LinkError
from common.process.settings import SettingsError
from common.protocol.topics import Topics
from common.protocol.worker_status import read_status
from edge_agent.config import AgentConfig
from edge_agent.errors import AgentError
from edge_agent.http.api_errors import ApiError

QUIET = 0.3  # seconds without a further status after which every retained one has arrived
PATIENCE = 5.0  # seconds at most
LINGER = 60.0  # seconds that the connection is kept after the last request
MAX_WORKERS = 1000

_log = logging.getLogger(__name__)


class Pool:
    """Connects when it is first asked, and leaves when it has not been asked for a while."""

    def __init__(self, config: AgentConfig) -> None:
        self._config = config
        self._topics = Topics(config.root)
        self._workers: dict[str, dict[str, Any]] = {}
        self._task: asyncio.Task[None] | None = None
        self._complete = asyncio.Event()  # every retained status has arrived
        self._asked_at = 0.0
        self._failure: Exception | None = None

    async def workers(self) -> list[dict[str, Any]]:
        """The workers of this pool by name, each with its status and the seconds since; raises ApiError."""
        if self._config.username is not None:
            raise ApiError(
                403,
                "the account of a device may not read the workers: use that of an operator, with "
                "cloud-worker status",
                code="pool_not_readable",
            )
        self._asked_at = time.monotonic()
        if self._task is None or self._task.done():
            self._failure = None
            self._complete.clear()
            self._task = asyncio.create_task(self._follow(), name="pool")
        try:
            async with asyncio.timeout(PATIENCE):
                await self._complete.wait()
        except TimeoutError:
            self._failure = LinkError(f"no answer from the broker at {self._config.broker}")
        if self._failure is not None:
            raise ApiError(503, str(self._failure), code="pool_not_readable", retry_after=5)
        now = time.time()
        return [
            {**one, "seconds_ago": round(now - one["seen_at"], 1)}
            for _, one in sorted(self._workers.items())
            if one["pool"] == self._config.pool
        ]

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """Leave the broker at the end."""
        try:
            yield
        finally:
            if self._task is not None:
                self._task.cancel()
                await asyncio.wait({self._task})

    async def _follow(self) -> None:
        try:
            link = Link(
                self._config.link_settings(f"pool-{secrets.token_hex(3)}"),
                subscriptions=[self._topics.worker_filter()],
                wants_retained=True,
            )
            async with link:
                while time.monotonic() - self._asked_at < LINGER:
                    await self._take(link)
        except (LinkError, SettingsError, AgentError) as error:
            self._failure = error
        finally:
            self._complete.set()
            self._workers.clear()

    async def _take(self, link: Link) -> None:
        """Take in one status, or note that none comes."""
        try:
            async with asyncio.timeout(QUIET if not self._complete.is_set() else LINGER / 2):
                received = await link.receive()
        except TimeoutError:
            self._complete.set()
            return
        try:
            name = self._topics.parse_worker(received.topic)
            if not received.payload:
                self._workers.pop(name, None)
            elif name in self._workers or len(self._workers) < MAX_WORKERS:
                status = asdict(read_status(received.payload))
                self._workers[name] = {"worker": name, **status, "seen_at": round(time.time(), 3)}
        except ValueError as error:
            _log.warning("ignored the retained message on %s: %s", received.topic, error)
