"""`on_cloud_loss = local` over slow and broken links: a real broker and worker, an agent just started.

All tests use one worker; each opens its agents anew, as socket activation does for every connection.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator

import pytest

from benchmarks.support.link_emulator import Conditions, LinkEmulator
from edge_agent.agent import EdgeAgent
from edge_agent.config import AgentConfig
from edge_agent.generation.generation import Generation
from edge_agent.session.transcript import Fate
from evaluation.local.broker import LocalBroker
from evaluation.local.worker import LocalWorker
from tests.support.small_models import FolderOf, SmallModels

VERIFIED = {Fate.VERIFIED, Fate.CORRECTED, Fate.TARGET}

Midway = Callable[[EdgeAgent, Generation], Awaitable[None]]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, models: SmallModels) -> Iterator[LocalBroker]:
    """A broker with one worker."""
    with (
        LocalBroker(tmp_path_factory.mktemp("cold")) as broker,
        LocalWorker(broker.url, "--model", str(models.target("llama"))),
    ):
        yield broker


def emulated(broker: LocalBroker, delay: float) -> LinkEmulator:
    """A line to the broker that delays each direction by `delay` seconds."""
    return LinkEmulator("127.0.0.1", broker.port, Conditions(delay), Conditions(delay))


def local_config(url: str, draft_folder: FolderOf, scheme: str) -> AgentConfig:
    return AgentConfig(
        broker=url,
        model=str(draft_folder("llama")),
        scheme=scheme,
        on_cloud_loss="local",
        max_tokens=24,
        seed=3,
    )


async def generate(config: AgentConfig, midway: Midway | None = None, after: int = 4) -> Generation:
    """One answer of a new agent; `midway` runs when `after` tokens are final."""
    async with EdgeAgent.open(config) as agent:
        generation = agent.generate("turn on the kitchen light")
        count = 0
        async for _ in generation:
            count += 1
            if midway is not None and count == after:
                await midway(agent, generation)
        return generation


async def reconnected(agent: EdgeAgent) -> None:
    while agent.link_statistics.num_connects < 2:
        await asyncio.sleep(0.01)


def num_verified(generation: Generation) -> int:
    return sum(generation.session.tally.num_by_fate[fate] for fate in VERIFIED)


def check_all_verified(generation: Generation) -> None:
    tally = generation.session.tally
    assert generation.failure is None
    assert num_verified(generation) == tally.num_tokens == 24, tally.num_by_fate
    assert generation.session.cloud.reason is None


def check_only_open_left(generation: Generation, num_open: int) -> None:
    assert generation.failure is None
    assert generation.session.cloud.reason == "the broker cannot be reached"
    assert generation.session.tally.num_by_fate[Fate.UNVERIFIED] <= num_open + 1
    assert num_verified(generation) >= 24 - num_open - 1


@pytest.mark.parametrize(
    ("scheme", "delay_ms"),
    [*(("lossless", delay) for delay in (0, 10, 50, 200)), ("hlm", 10), ("coupled", 50), ("llm", 200)],
)
def test_an_agent_that_has_just_started_has_every_token_verified(
    scheme: str, delay_ms: int, served: LocalBroker, draft_folder: FolderOf
) -> None:
    async def scenario() -> Generation:
        async with emulated(served, delay_ms / 1000) as link:
            return await generate(local_config(link.url, draft_folder, scheme))

    check_all_verified(asyncio.run(scenario()))


@pytest.mark.parametrize("scheme", ["lossless", "llm"])
def test_an_agent_that_starts_before_its_network_has_every_token_verified(
    scheme: str, served: LocalBroker, draft_folder: FolderOf
) -> None:
    """Its first attempts to connect fail, as on a device that boots faster than its router."""

    async def scenario() -> Generation:
        async with emulated(served, 0.05) as link:
            await link.cut(1.5)
            return await generate(local_config(link.url, draft_folder, scheme))

    check_all_verified(asyncio.run(scenario()))


@pytest.mark.parametrize("scheme", ["hlm", "lossless"])
def test_what_follows_a_short_interruption_is_verified(
    scheme: str, served: LocalBroker, draft_folder: FolderOf
) -> None:
    """Only what was open when the line broke, or being drafted, is left unverified."""
    num_open = 0

    async def scenario() -> Generation:
        async with emulated(served, 0.01) as link:

            async def interrupt(agent: EdgeAgent, generation: Generation) -> None:
                nonlocal num_open
                num_open = len(generation.session.tentative)
                await link.cut(0.3)
                await reconnected(agent)

            return await generate(local_config(link.url, draft_folder, scheme), interrupt)

    check_only_open_left(asyncio.run(scenario()), num_open)


def test_what_follows_a_restart_of_the_broker_is_verified(
    served: LocalBroker, draft_folder: FolderOf
) -> None:
    """The worker has to reconnect as well: a pool that is empty until then is waited for."""
    num_open = 0

    async def restart(agent: EdgeAgent, generation: Generation) -> None:
        nonlocal num_open
        num_open = len(generation.session.tentative)
        await asyncio.to_thread(served.kill)
        await asyncio.to_thread(served.start)
        await reconnected(agent)

    generation = asyncio.run(generate(local_config(served.url, draft_folder, "hlm"), restart))
    check_only_open_left(generation, num_open)
