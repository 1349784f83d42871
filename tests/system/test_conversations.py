"""Four conversations at once through a real broker and worker: each text is the one that it gets alone."""

import asyncio

from edge_agent import AgentConfig, EdgeAgent, Report
from edge_agent.generation.generation import Generation
from evaluation.local.broker import LocalBroker
from evaluation.local.worker import LocalWorker

PROMPTS = ("turn on the kitchen light", "turn off the kitchen light", "close the blinds", "good night")
SCHEMES = ("lossless", "coupled", "opportunistic", "hlm", "cu-hlm-online", "llm", "slm")


async def consume(generation: Generation) -> Generation:
    async for _ in generation:
        pass
    return generation


def config_of(broker: LocalBroker, slots: int) -> AgentConfig:
    return AgentConfig(broker=broker.url, slots=slots, temperature=1.0, max_tokens=24, num_threads=1)


def ask(agent: EdgeAgent, prompt: str, scheme: str, seed: int) -> Generation:
    threshold = 0.3 if scheme == "opportunistic" else None  # else it learns
    return agent.generate(prompt, scheme=scheme, seed=seed, threshold=threshold)


async def one_by_one(broker: LocalBroker, seeds: range) -> dict[str, list[str]]:
    async with EdgeAgent.open(config_of(broker, 1)) as agent:
        return {
            f"{scheme} {seed}": [(await consume(ask(agent, one, scheme, seed))).text for one in PROMPTS]
            for scheme in SCHEMES
            for seed in seeds
        }


async def at_once(broker: LocalBroker, seeds: range) -> dict[str, list[str]]:
    texts: dict[str, list[str]] = {}
    async with EdgeAgent.open(config_of(broker, len(PROMPTS))) as agent:
        for scheme in SCHEMES:
            for seed in seeds:
                before = agent.link_statistics
                tasks = [asyncio.create_task(consume(ask(agent, one, scheme, seed))) for one in PROMPTS]
                extra = asyncio.create_task(consume(ask(agent, "what is the temperature?", scheme, seed)))
                await tasks[0]
                extra.cancel()
                done = await asyncio.gather(*tasks)
                await asyncio.gather(extra, return_exceptions=True)
                assert [one.failure for one in done] == [None] * len(done)
                texts[f"{scheme} {seed}"] = [one.text for one in done]
                reports, after = [Report.of(one) for one in done], agent.link_statistics
                num_up = sum(report.num_bytes_up for report in reports)
                num_down = sum(report.num_bytes_down for report in reports)
                assert num_up <= after.num_bytes_up - before.num_bytes_up
                assert num_down <= after.num_bytes_down - before.num_bytes_down
                assert scheme != "slm" or num_up == num_down == 0
    return texts


def test_texts_at_once_are_those_one_by_one_in_every_scheme(broker: LocalBroker) -> None:
    with LocalWorker(broker.url):
        seeds = range(1, 3)
        assert asyncio.run(at_once(broker, seeds)) == asyncio.run(one_by_one(broker, seeds))


def test_bytes_of_generations_at_once_add_up_to_those_of_the_link(broker: LocalBroker) -> None:
    async def scenario() -> None:
        async with EdgeAgent.open(config_of(broker, 3)) as agent:
            done = await asyncio.gather(*(consume(ask(agent, one, "lossless", 1)) for one in PROMPTS))
            reports, total = [Report.of(one) for one in done], agent.link_statistics
            assert sum(report.num_bytes_up for report in reports) == total.num_bytes_up
            num_down = sum(report.num_bytes_down for report in reports)
            assert 0 < num_down <= total.num_bytes_down  # an answer that comes after the end is no one's
            assert all(report.seconds_cpu > 0 for report in reports)

    with LocalWorker(broker.url):
        asyncio.run(scenario())
