"""The command `serve`: one agent, for every way in, until SIGTERM or Ctrl-C.

Law: the first signal lets running answers finish for a bounded time, and every way says good-bye; a second
one ends the process at once. The exit code is 0 when it was asked to end.
"""

import asyncio
import logging
import os
import signal
import socket
import sys
from contextlib import AsyncExitStack

from common.process.log import printable
from edge_agent import app_topics
from edge_agent.agent import EdgeAgent
from edge_agent.config import AgentConfig
from edge_agent.errors import ConfigError
from edge_agent.http.serving import Addresses, bind, serving
from edge_agent.service.service import Service

_SIGNALS = (signal.SIGTERM, signal.SIGINT)

_log = logging.getLogger(__name__)


def serve(config: AgentConfig) -> int:
    """Serve until a signal; returns 0. Raises AgentError when it cannot begin."""
    if config.home_assistant and not config.serves_apps:  # no check of the config: asks change its scheme
        raise ConfigError("`home_assistant` needs `app_topics`: set both")
    sockets = bind(config)  # before the model is loaded, which takes a while
    try:
        asyncio.run(_serve(config, [one.dup() for one in sockets]))
    finally:
        for one in sockets:
            one.close()
    return 0


async def _serve(config: AgentConfig, sockets: list[socket.socket]) -> None:
    async with AsyncExitStack() as stack:
        site, addresses = None, None
        if sockets:
            site, addresses = await stack.enter_async_context(serving(config, sockets))
        agent = await stack.enter_async_context(EdgeAgent.open(config, for_apps=config.serves_apps))
        service = Service(agent, max_waiting=config.max_waiting)
        if config.serves_apps:
            await stack.enter_async_context(app_topics.serving(service, config))
        if site is not None:
            site.service = service
        stopped = _signalled()
        _greet(addresses)
        await stopped.wait()
        _log.info("stopping: running answers may take %g s to finish", config.shutdown_timeout)
        await service.close(config.shutdown_timeout)


def _signalled() -> asyncio.Event:
    """Set by the first signal; the second ends the process."""
    event, loop = asyncio.Event(), asyncio.get_running_loop()

    def stop(number: int) -> None:
        if event.is_set():
            os._exit(128 + number)
        event.set()

    for number in _SIGNALS:
        loop.add_signal_handler(number, stop, number)
    return event


def _greet(addresses: Addresses | None) -> None:
    """Where to find it, and the key, for the person who started it."""
    if addresses is not None:
        _say(f"ready at {addresses.url}")
        if addresses.new_key is not None:
            _say(f"clients need this key, a new one at each start (or set http_key): {addresses.new_key}")
    else:
        _say("ready")


def _say(line: str) -> None:
    print(f"edge-agent: {printable(line)}", file=sys.stderr, flush=True)
