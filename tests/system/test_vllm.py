"""A real vLLM server as target model, with real brokers, workers and agents.

`make test-vllm` installs vLLM and names its folder in VLLM; other runs skip this.
"""

import asyncio
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from scipy.stats import chi2
from transformers import AutoModelForCausalLM

from benchmarks.support.vllm_server import VllmServer
from cloud_worker.engines.engine import EngineError
from cloud_worker.session.job import Job
from cloud_worker.vllm_target.client import Client
from cloud_worker.vllm_target.judging import judged
from cloud_worker.vllm_target.model_folder import ModelFolder
from cloud_worker.vllm_target.start_checks import check
from common.protocol.messages import Draft, DraftToken, Opening
from common.sampling.distribution import Lattice, Sampling, quantise, warp
from common.sampling.randomness import FloatArray, Purpose, uniform
from edge_agent.config import AgentConfig
from edge_agent.generation.generation import Generation
from evaluation.local.broker import LocalBroker
from evaluation.local.worker import LocalWorker, LocalWorkers
from tests.support.narrowing import present
from tests.support.processes import answers, generate, greedy_answers
from tests.support.small_models import VOCAB_SIZE, FolderOf

INSTALLED = Path(os.environ.get("VLLM", "no such folder")).absolute()
PROMPTS = ("turn on the kitchen light", "What is the temperature?", "Öffne das Fenster 🙂")
CONTEXT = (7, 120, 45, 300, 260, 31)
NUM_DRAWS = 1200
AT_ONCE = 48

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (INSTALLED / ".installed").exists(), reason="needs vLLM: make test-vllm"),
]


@pytest.fixture(scope="module")
def target(family_folder: FolderOf) -> Path:
    """The target model, in torch."""
    return family_folder("wide")


@pytest.fixture(scope="module")
def server(target: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[VllmServer]:
    """A server for all tests of this module."""
    with VllmServer(INSTALLED, target, tmp_path_factory.mktemp("vllm")) as running:
        yield running


@pytest.fixture
def workers(server: VllmServer, target: Path, broker: LocalBroker) -> Iterator[LocalWorkers]:
    """Two workers of one pool, on the same server."""
    with LocalWorkers(broker.url, *flags(server, target), names=("first", "second")) as running:
        yield running


def flags(server: VllmServer, target: Path) -> tuple[str, ...]:
    return ("--engine", "vllm", "--engine-url", server.url, "--model", str(target))


def config(broker: LocalBroker, draft: Path, **settings: Any) -> AgentConfig:
    usual = AgentConfig(broker=broker.url, model=str(draft), temperature=1.0, max_tokens=48, seed=11)
    return replace(usual, **settings)


# -- the law ---------------------------------------------------------------------------------------------

SAMPLINGS = {
    "temperature 1": Sampling(),
    "top-k and top-p": Sampling(temperature=0.9, top_k=40, top_p=0.9),
    "min-p and repetition penalty": Sampling(temperature=1.3, min_p=0.02, repetition_penalty=1.3),
}


@pytest.mark.parametrize("name", SAMPLINGS)
def test_verified_tokens_have_the_targets_distribution(name: str, server: VllmServer, target: Path) -> None:
    sampling = SAMPLINGS[name]
    logits = target_logits(target)
    expected = NUM_DRAWS * warp(penalised(logits, sampling), sampling)
    random = np.random.default_rng(2)
    lattice = quantise(warp(logits + random.normal(size=len(logits)), Sampling()), 6, 256)
    found = Counter(asyncio.run(verified(server, target, lattice, sampling)))
    assert not any(found[token] for token in range(len(expected)) if expected[token] == 0.0)
    assert chi_square(found, expected) < 0.9999
    drafts = Counter(lattice.draw(uniform(seed, len(CONTEXT), Purpose.DRAFT)) for seed in range(NUM_DRAWS))
    assert chi_square(drafts, np.maximum(expected, 1e-9)) > 1 - 1e-9  # it is no test otherwise


async def verified(server: VllmServer, folder: Path, lattice: Lattice, sampling: Sampling) -> list[int]:
    """The token that follows CONTEXT, for many seeds, each with its own draft token."""
    gate = asyncio.Semaphore(AT_ONCE)
    async with Client(server.url) as client:
        await check(client, "", ModelFolder.read(str(folder)))

        async def one(seed: int) -> int:
            token = lattice.draw(uniform(seed, len(CONTEXT), Purpose.DRAFT))
            opening = Opening(b"", VOCAB_SIZE, sampling, seed)
            draft = Draft(1, 0, 0, CONTEXT, (DraftToken(token, lattice),), opening=opening)
            async with gate:
                job = Job(opening, (draft,), CONTEXT, 1)
                verdict = (await judged(job, client.ask, VOCAB_SIZE))[0].verdict
            return token if verdict.token is None else verdict.token

        return await asyncio.gather(*(one(seed) for seed in range(NUM_DRAWS)))


def target_logits(folder: Path) -> FloatArray:
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.inference_mode():
        return cast("FloatArray", model(torch.tensor([CONTEXT])).logits[0, -1].double().numpy())


def penalised(logits: FloatArray, sampling: Sampling) -> FloatArray:
    changed, seen = logits.copy(), list(CONTEXT)
    penalty = sampling.repetition_penalty
    changed[seen] = np.where(logits[seen] > 0, logits[seen] / penalty, logits[seen] * penalty)
    return changed


def chi_square(found: Counter[int], expected: FloatArray) -> float:
    """The share of the chi-square distribution below the counts' statistic: near 1, they do not fit."""
    counts = np.array([found[token] for token in range(len(expected))], float)
    common = expected >= 5.0
    pairs = [(counts[common], expected[common])]
    if (rest := float(expected[~common].sum())) >= 1.0:
        pairs.append((np.array([counts[~common].sum()]), np.array([rest])))
    statistic = sum(float(((seen - wanted) ** 2 / wanted).sum()) for seen, wanted in pairs)
    return float(chi2.cdf(statistic, sum(len(seen) for seen, _ in pairs) - 1))


# -- texts -----------------------------------------------------------------------------------------------


def test_greedy_text_is_the_targets_own(
    workers: LocalWorkers, broker: LocalBroker, target: Path, draft_folder: FolderOf
) -> None:
    del workers
    for scheme, window in (("lossless", 1), ("lossless", 4), ("llm", 1), ("hlm", 1)):
        chosen = config(broker, draft_folder("wide"), scheme=scheme, window=window, temperature=0.0)
        generations = asyncio.run(generate(chosen, *PROMPTS))
        assert answers(generations) == greedy_answers(target, generations), scheme


def test_text_depends_on_the_seed_and_not_on_blocks_or_windows(
    workers: LocalWorkers, broker: LocalBroker, draft_folder: FolderOf
) -> None:
    del workers
    chosen = config(broker, draft_folder("wide"), scheme="lossless", window=1, block_length=1)
    texts = answers(asyncio.run(generate(chosen, *PROMPTS)))
    for settings in ({"window": 4, "block_length": 3}, {"window": None, "block_length": None}):
        assert answers(asyncio.run(generate(replace(chosen, **settings), *PROMPTS))) == texts
    assert answers(asyncio.run(generate(replace(chosen, seed=12), *PROMPTS))) != texts


def test_a_killed_worker_changes_nothing_in_the_text(
    workers: LocalWorkers, broker: LocalBroker, draft_folder: FolderOf
) -> None:
    for scheme in ("lossless", "llm", "opportunistic"):
        chosen = config(broker, draft_folder("wide"), scheme=scheme)
        calm = answers(asyncio.run(generate(chosen, PROMPTS[0])))
        killed: list[LocalWorker] = []

        def kill(generation: Generation, killed: list[LocalWorker] = killed) -> None:
            killed.append(workers[present(generation.session.worker)])
            killed[0].kill()

        assert answers(asyncio.run(generate(chosen, PROMPTS[0], midway=kill))) == calm, scheme
        killed[0].launch()
        killed[0].wait_ready()


def test_a_server_that_restarts_in_mid_answer_loses_nothing(
    workers: LocalWorkers, server: VllmServer, broker: LocalBroker, draft_folder: FolderOf
) -> None:
    chosen = config(broker, draft_folder("wide"), scheme="lossless", cloud_timeout=600.0)
    calm = answers(asyncio.run(generate(chosen, PROMPTS[1])))

    def restart(_: Generation) -> None:
        server.kill()
        server.launch()  # the agent goes on meanwhile

    assert answers(asyncio.run(generate(chosen, PROMPTS[1], midway=restart))) == calm
    log = workers["first"].log + workers["second"].log
    assert "the target model's server is lost" in log
    assert "the target model's server is back" in log


def test_eight_agents_at_once_get_the_texts_that_each_gets_alone(
    workers: LocalWorkers, broker: LocalBroker, draft_folder: FolderOf
) -> None:
    del workers
    seeds = range(8)
    configs = [
        config(broker, draft_folder("wide"), scheme=("lossless", "llm")[seed % 2], seed=seed, max_tokens=24)
        for seed in seeds
    ]

    async def together() -> list[list[Generation]]:
        return await asyncio.gather(*(generate(one, PROMPTS[seed % 3]) for seed, one in enumerate(configs)))

    crowd = [answers(one) for one in asyncio.run(together())]
    alone = [answers(asyncio.run(generate(one, PROMPTS[seed % 3]))) for seed, one in enumerate(configs)]
    assert crowd == alone


# -- what is refused -------------------------------------------------------------------------------------


def test_a_scheme_that_needs_whole_distributions_ends_in_one_line(
    workers: LocalWorkers, broker: LocalBroker, draft_folder: FolderOf
) -> None:
    del workers
    for scheme in ("hlm", "cu-hlm-online", "coupled"):
        chosen = config(broker, draft_folder("wide"), scheme=scheme)
        (generation,) = asyncio.run(generate(chosen, PROMPTS[0]))
        failure = str(generation.session.failure)
        assert "engine vllm verifies only truncated distributions; use scheme lossless" in failure
        assert "\n" not in failure


def test_a_server_with_raw_probabilities_or_another_model_is_refused(
    server: VllmServer, target: Path, family_folder: FolderOf, tmp_path: Path
) -> None:
    async def checked(url: str, folder: ModelFolder, model: str = "") -> None:
        async with Client(url) as client:
            await check(client, model, folder)

    with pytest.raises(EngineError, match="has other tokens than the tokenizer"):
        asyncio.run(checked(server.url, ModelFolder.read("demo")))
    with pytest.raises(EngineError, match="has no model other: set `engine_model` to one of"):
        asyncio.run(checked(server.url, ModelFolder.read(str(target)), "other"))
    with (
        VllmServer(INSTALLED, target, tmp_path, arguments=()) as raw,
        pytest.raises(EngineError, match="start vLLM with --logprobs-mode processed_logprobs"),
    ):
        asyncio.run(checked(raw.url, ModelFolder.read(str(target))))
    del family_folder
