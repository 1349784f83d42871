"""Leaving an agent whose broker has stopped answering: seconds, not until TCP or a keepalive gives up."""

import asyncio
import os
import signal
import time
from collections.abc import Iterator

import pytest

from common.link import Link, LinkSettings
from edge_agent.agent import EdgeAgent
from edge_agent.config import AgentConfig
from edge_agent.generation.generation import Generation
from evaluation.local.broker import LocalBroker
from tests.support.small_models import FolderOf

GENEROUS = 12.0  # seconds; a dead line is noticed after 20 at the earliest


async def consume(generation: Generation) -> None:
    async for _ in generation:
        pass


@pytest.fixture
def stopped_later(broker: LocalBroker) -> Iterator[LocalBroker]:
    """A broker that a test may stop with SIGSTOP."""
    yield broker
    os.kill(broker.pid, signal.SIGCONT)


@pytest.mark.parametrize("policy", ["fail", "wait", "local"])
def test_an_agent_leaves_a_broker_that_stands_still(
    policy: str, stopped_later: LocalBroker, draft_folder: FolderOf
) -> None:
    async def scenario() -> float:
        config = AgentConfig(
            broker=stopped_later.url,
            model=str(draft_folder("llama")),
            scheme="hlm",
            on_cloud_loss=policy,
            max_tokens=20,
        )
        async with EdgeAgent.open(config) as agent:
            while agent.link_statistics.num_connects == 0:
                await asyncio.sleep(0.01)
            os.kill(stopped_later.pid, signal.SIGSTOP)
            asking = asyncio.create_task(consume(agent.generate("turn on")))
            await asyncio.wait([asking], timeout=1.0)
            assert asking.cancel(), "nothing was waiting for the broker"
            await asyncio.wait([asking])
            began = time.monotonic()
        return time.monotonic() - began

    assert asyncio.run(scenario()) < GENEROUS


def test_a_cancelled_sender_is_forgotten_and_its_late_acknowledgement_too(stopped_later: LocalBroker) -> None:
    async def scenario() -> None:
        async with Link(LinkSettings(stopped_later.url), subscriptions=["a"]) as link:
            os.kill(stopped_later.pid, signal.SIGSTOP)
            senders = [asyncio.create_task(link.send("a", b"%d" % number, qos=1)) for number in range(5)]
            await asyncio.sleep(0.1)
            for sender in senders[::2]:
                sender.cancel()
            await asyncio.wait(senders, timeout=0.1)
            os.kill(stopped_later.pid, signal.SIGCONT)
            async with asyncio.timeout(GENEROUS):
                received = [(await link.receive()).payload for _ in range(5)]
                await asyncio.gather(*senders, return_exceptions=True)
                await link.send("a", b"after", qos=1)
            assert received == [b"0", b"1", b"2", b"3", b"4"]
            assert [sender.cancelled() for sender in senders] == [True, False, True, False, True]
            assert link.statistics.num_connects == 1

    asyncio.run(scenario())
