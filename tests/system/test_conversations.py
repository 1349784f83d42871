"""Four conversations at once through a real broker and worker: each text is the one that it gets alone."""

import asyncio

from edge_agent import AgentConfig, EdgeAgent, Report
from edge_agent.generation.generation import Generation
from evaluation.local.broker import LocalBroker
from evaluation.local.worker import LocalWorker

PROMPTS = ("turn on the kitchen light", "turn off the kitchen light", "close the blinds", "good night")
KINDS = [(scheme, 1) for scheme in ("coupled", "hlm", "cu-hlm-online", "llm", "slm")]
KINDS += [(scheme, seed) for scheme in ("lossless", "opportunistic") for seed in (1, 2)]


async def consume(generation: Generation) -> Generation:
    async for _ in generation:
        pass
    return generation


def config_of(broker: LocalBroker, slots: int) -> AgentConfig:
    return AgentConfig(broker=broker.url, slots=slots, temperature=1.0, max_tokens=12, on_cloud_loss="wait")


def ask(agent: EdgeAgent, prompt: str, scheme: str, seed: int) -> Generation:
    threshold = 0.3 if scheme == "opportunistic" else None  # else it learns
    return agent.generate(prompt, scheme=scheme, seed=seed, threshold=threshold)


async def one_by_one(broker: LocalBroker) -> dict[str, list[str]]:
    async with EdgeAgent.open(config_of(broker, 1)) as agent:
        return {
            f"{scheme} {seed}": [(await consume(ask(agent, one, scheme, seed))).text for one in PROMPTS]
            for scheme, seed in KINDS
        }


async def at_once(broker: LocalBroker) -> dict[str, list[str]]:
    texts: dict[str, list[str]] = {}
    async with EdgeAgent.open(config_of(broker, len(PROMPTS))) as agent:
        for scheme, seed in KINDS:
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


def test_texts_at_once_are_those_one_by_one_and_bytes_those_of_each(broker: LocalBroker) -> None:
    with LocalWorker(broker.url):
        assert asyncio.run(at_once(broker)) == asyncio.run(one_by_one(broker))
        asyncio.run(bytes_add_up(broker))


async def bytes_add_up(broker: LocalBroker) -> None:
    async with EdgeAgent.open(config_of(broker, 3)) as agent:
        done = await asyncio.gather(*(consume(ask(agent, one, "lossless", 1)) for one in PROMPTS))
        reports, total = [Report.of(one) for one in done], agent.link_statistics
        assert sum(report.num_bytes_up for report in reports) == total.num_bytes_up
        num_down = sum(report.num_bytes_down for report in reports)
        assert 0 < num_down <= total.num_bytes_down  # an answer that comes after the end is no one's
        assert all(report.seconds_cpu > 0 for report in reports)
