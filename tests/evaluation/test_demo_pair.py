"""The pair that ships: small enough, one vocabulary, and lossless through the broker."""

import asyncio
from dataclasses import replace
from pathlib import Path

import cloud_worker
import edge_agent
from cloud_worker.target_model import TargetModel
from common.protocol.fingerprint import fingerprint
from edge_agent.config import AgentConfig
from edge_agent.draft_model.files import read_info
from edge_agent.text.tokenizer import Text
from evaluation.local.broker import LocalBroker
from evaluation.local.worker import LocalWorker
from evaluation.smart_home.held_out import held_out
from tests.support.processes import answers, generate, greedy_answers

DRAFT = Path(edge_agent.__file__).parent / "demo_model"
TARGET = Path(cloud_worker.__file__).parent / "demo_model"


def commands(count: int) -> list[str]:
    return [each.command for each in held_out(count)]


def test_all_files_together_take_at_most_16_mb() -> None:
    sizes = [path.stat().st_size for folder in (DRAFT, TARGET) for path in folder.iterdir()]
    assert sum(sizes) <= 16e6


def test_both_models_share_one_vocabulary() -> None:
    text = Text.load(read_info(DRAFT))
    assert text.fingerprint == fingerprint(TargetModel.load("demo").vocabulary)


def test_greedy_text_of_50_held_out_commands_is_the_targets_own(broker: LocalBroker) -> None:
    with LocalWorker(broker.url):
        generations = {
            scheme: asyncio.run(
                generate(AgentConfig(broker=broker.url, scheme=scheme, temperature=0.0), *commands(50))
            )
            for scheme in ("lossless", "coupled")
        }
    expected = greedy_answers(TARGET, generations["lossless"])
    for scheme, made in generations.items():
        assert answers(made) == expected, scheme
        assert {one.session.finish_reason for one in made} == {"stop"}


def test_coupled_text_is_the_streamed_text_of_the_target_for_every_seed(broker: LocalBroker) -> None:
    with LocalWorker(broker.url):
        for seed in (1, 2):
            config = AgentConfig(broker=broker.url, scheme="coupled", temperature=1.0, seed=seed)
            coupled = asyncio.run(generate(config, *commands(5)))
            streamed = asyncio.run(generate(replace(config, scheme="llm"), *commands(5)))
            assert answers(coupled) == answers(streamed)
