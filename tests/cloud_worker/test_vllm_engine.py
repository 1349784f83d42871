"""The engine of a vLLM server: what it checks, what it refuses, and what a lost connection does."""

import asyncio
import subprocess
import sys
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cloud_worker.config import WorkerConfig
from cloud_worker.engines.engine import EngineError, EngineLostError
from cloud_worker.scheduling.fair_queue import SessionKey
from cloud_worker.scheduling.retries import Failure, Unjudged
from cloud_worker.scheduling.task import Task
from cloud_worker.session.admission import Target
from cloud_worker.session.job import Job
from cloud_worker.session.judging import Judged
from cloud_worker.session.session import CloudSession
from cloud_worker.session.verification import Verdict
from cloud_worker.vllm_target.client import Client
from cloud_worker.vllm_target.engine import VllmEngine, open_vllm_engine
from cloud_worker.vllm_target.model_folder import ModelFolder
from cloud_worker.vllm_target.questions import Question
from cloud_worker.vllm_target.start_checks import Served, check
from common.process.settings import SettingsError
from common.protocol.messages import Draft, DraftToken, Opening
from common.sampling.distribution import Dense, Lattice, Sampling, warp
from tests.support.fake_vllm import VOCAB_SIZE, FakeVllm

FOLDER = ModelFolder.read("demo")
GREEDY = Sampling(temperature=0.0)
CONTEXT = (5, 6, 7, 8)
LATTICE = Lattice(np.array([40, 41, 42]), np.array([128, 64, 64]))


def with_server(use: Callable[[FakeVllm], Awaitable[None]], **settings: object) -> None:
    """Run `use` beside a server with these settings."""

    async def run() -> None:
        async with replace(FakeVllm(FOLDER.tokenizer), **settings) as server:  # type: ignore[arg-type]
            await use(server)

    asyncio.run(run())


async def checked(server: FakeVllm, wanted: str = "", key: str | None = None) -> Served:
    async with Client(server.url, key) as client:
        return await check(client, wanted, FOLDER)


async def opened(server: FakeVllm) -> VllmEngine:
    client = Client(server.url)
    async with client:
        served = await check(client, "", FOLDER)
    return VllmEngine(client, served, FOLDER)


def task(*block: DraftToken, sampling: Sampling = GREEDY, bonus: int = 0, probs: int = 0) -> Task:
    opening = Opening(b"", VOCAB_SIZE, sampling, seed=4)
    draft = Draft(1, 0, 0, CONTEXT, block, bonus=bonus, num_context_probs=probs, opening=opening)
    tokens = (*CONTEXT, *(item.token for item in block[: None if bonus else -1]))
    session = CloudSession(Target("w", b"", VOCAB_SIZE, 512))
    job = Job(opening, (draft,), tokens, len(tokens) - len(CONTEXT) + 1 + probs)
    return Task(SessionKey("device", "session"), session, job)


# -- the checks ------------------------------------------------------------------------------------------


def test_a_server_as_it_should_be_passes() -> None:
    async def use(server: FakeVllm) -> None:
        assert await checked(server) == Served("0.32.0", "target", 512)

    with_server(use)
    with_server(use, num_padding=40)
    with_server(use, models=("target",), key=None)


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"mode": "raw_logprobs"}, "--logprobs-mode processed_logprobs"),
        ({"follows_seeds": False}, "samples do not follow the seed"),
        ({"version": "0.9.2"}, "vLLM 0.9.2 is too old"),
        ({"version": ""}, "does not report a version"),
        ({"models": ("one", "two")}, "2 models: set `engine_model` to one of one, two"),
        ({"num_padding": 2000, "padding_logit": 0.0}, "2000 ids beyond the vocabulary have a probability"),
        ({"max_model_len": None}, "does not report max_model_len"),
    ],
)
def test_a_server_that_would_be_inexact_is_refused(settings: dict[str, object], problem: str) -> None:
    async def use(server: FakeVllm) -> None:
        with pytest.raises(EngineError, match=problem):
            await checked(server)

    with_server(use, **settings)


def test_ids_beyond_the_vocabulary_are_excluded_if_they_have_a_probability() -> None:
    async def use(server: FakeVllm) -> None:
        async with Client(server.url) as client:
            await check(client, "", FOLDER)
            question = Question(len(CONTEXT), Sampling(), 3, (40, 41, 42), 64)
            reply = await client.ask(CONTEXT, question)
            expected = warp(server.logits(CONTEXT)[:VOCAB_SIZE], Sampling())[[40, 41, 42]]
            assert reply.probs == pytest.approx(expected.tolist(), rel=1e-9)
            assert max(reply.samples) < VOCAB_SIZE
            assert len(client.padding) == server.num_padding

    with_server(use, num_padding=300, padding_logit=3.0)


def test_a_server_with_another_tokenizer_is_refused() -> None:
    other = FOLDER.tokenizer.from_str(FOLDER.tokenizer.to_str())
    other.add_tokens(["zebra crossing"])

    async def use(server: FakeVllm) -> None:
        async with Client(server.url) as client:
            with pytest.raises(EngineError, match="other tokens than the tokenizer of `model`"):
                await check(client, "", ModelFolder(other, frozenset()))

    with_server(use)


def test_a_model_is_chosen_by_its_name() -> None:
    async def use(server: FakeVllm) -> None:
        assert (await checked(server, "two")).model == "two"
        with pytest.raises(EngineError, match="no model three: set `engine_model` to one of one, two"):
            await checked(server, "three")

    with_server(use, models=("one", "two"))


def test_a_key_is_sent_and_a_wrong_one_is_named() -> None:
    async def use(server: FakeVllm) -> None:
        assert (await checked(server, key="secret")).model == "target"
        with pytest.raises(EngineLostError, match="does not accept the key"):
            await checked(server, key="guess")

    with_server(use, key="secret")


def test_what_is_no_vllm_server_is_a_one_line_error(tmp_path: Path) -> None:
    with (
        pytest.raises(
            EngineError,
            match=r"^no answer from http://127.0.0.1:9 \(connection refused\): start vLLM, or set",
        ),
        open_vllm_engine(WorkerConfig(engine="vllm", engine_url="http://127.0.0.1:9/v1")),
    ):
        pass
    with pytest.raises(EngineError, match=r"has no tokenizer\.json"):
        ModelFolder.read(str(tmp_path))
    with pytest.raises(EngineError, match="there is no folder /no/such"):
        ModelFolder.read("/no/such")

    async def use(server: FakeVllm) -> None:
        with pytest.raises(EngineLostError, match="HTTP 502: <h1>out of order</h1>"):
            await checked(server)

    with_server(use, status=502)


# -- verdicts --------------------------------------------------------------------------------------------


def test_greedy_drafts_are_accepted_up_to_the_first_that_differs_from_the_servers_choice() -> None:
    async def use(server: FakeVllm) -> None:
        first = int(np.argmax(server.logits(CONTEXT)))
        second = int(np.argmax(server.logits((*CONTEXT, first))))
        third = int(np.argmax(server.logits((*CONTEXT, first, second))))
        async with await opened(server) as engine:

            async def verdict(*tokens: int, bonus: int = 0) -> Judged:
                block = [DraftToken(token) for token in tokens]
                part = (await engine.verify([task(*block, bonus=bonus)], [None])).parts[0]
                assert isinstance(part.outcome, list)
                return part.outcome[0]

            assert (await verdict(first, second)).verdict == Verdict(2, None)
            assert (await verdict(first, second, bonus=1)).verdict == Verdict(2, third)
            assert (await verdict(first, second + 1 if second else 1)).verdict == Verdict(1, second)

    with_server(use)


def test_the_same_draft_gets_the_same_verdict_and_its_context_is_measured() -> None:
    async def use(server: FakeVllm) -> None:
        async with await opened(server) as engine:
            drafted = task(
                DraftToken(41, LATTICE), DraftToken(40, LATTICE), sampling=Sampling(), bonus=1, probs=2
            )
            outcomes = [(await engine.verify([drafted], [None])).parts[0].outcome for _ in range(3)]
            assert outcomes[0] == outcomes[1] == outcomes[2]
            assert isinstance(outcomes[0], list)
            assert len(outcomes[0][0].context_codes) == 2

    with_server(use)


@pytest.mark.parametrize(
    ("drafted", "problem"),
    [
        (task(DraftToken(4), sampling=Sampling()), "verifies only truncated distributions; use scheme"),
        (
            task(DraftToken(4, Dense(np.ones(VOCAB_SIZE, np.float16))), sampling=Sampling()),
            "verifies only truncated distributions; use scheme",
        ),
        (
            task(DraftToken(4, Lattice(np.arange(600), np.full(600, 65536 // 600))), sampling=Sampling()),
            "at most 512 ids",
        ),
        (task(DraftToken(4), sampling=Sampling(presence_penalty=0.5)), "cannot follow presence_penalty"),
    ],
)
def test_what_cannot_be_exact_is_refused_for_good_with_what_to_do(drafted: Task, problem: str) -> None:
    async def use(server: FakeVllm) -> None:
        async with await opened(server) as engine:
            server.requests.clear()
            (part,) = (await engine.verify([drafted], [None])).parts
            assert isinstance(part.outcome, Unjudged)
            failure = Failure.of_judging(part.outcome.error)
            assert failure.is_permanent
            assert problem in failure.told
            assert server.requests == []

    with_server(use)


# -- a lost connection -----------------------------------------------------------------------------------


def test_a_lost_server_is_no_tasks_fault_and_is_checked_before_it_serves_again() -> None:
    async def use(server: FakeVllm) -> None:
        async with await opened(server) as engine:
            drafted = task(DraftToken(4), bonus=1)
            before = (await engine.verify([drafted], [None])).parts
            assert engine.fault is None
            await server.stop()
            for _ in range(2):
                with pytest.raises(EngineLostError):
                    await engine.verify([drafted], [None])
            assert engine.fault is not None
            server.mode = "raw_logprobs"  # another server has taken its place
            await server.start()
            with pytest.raises(EngineLostError, match="processed_logprobs"):
                await engine.verify([drafted], [None])
            server.mode = "processed_logprobs"
            again = await asyncio.gather(*(engine.verify([drafted], [None]) for _ in range(5)))
            assert [one.parts for one in again] == [before] * 5
            assert engine.fault is None

    with_server(use)


def test_a_server_with_an_error_of_its_own_is_lost() -> None:
    async def use(server: FakeVllm) -> None:
        async with await opened(server) as engine:
            server.status = 500
            with pytest.raises(EngineLostError, match="HTTP 500"):
                await engine.verify([task(DraftToken(4), bonus=1)], [None])

    with_server(use)


# -- settings --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"engine": "vllm"}, "`engine` vllm needs `engine_url`"),
        ({"engine": "vllm", "engine_url": "localhost:8000"}, "`engine_url` must be http://host:port"),
        ({"engine_url": "http://localhost:8000"}, "`engine_url` is for `engine` vllm"),
        ({"engine_model": "big"}, "`engine_model` is for `engine` vllm"),
        (
            {"engine": "vllm", "engine_url": "http://h:1", "dtype": "bfloat16"},
            "`dtype` is for `engine` torch",
        ),
        ({"engine": "vllm", "engine_url": "http://h:1", "cache_mb": 9}, "`cache_mb` is for `engine` torch"),
    ],
)
def test_settings_that_the_engine_has_no_use_for_are_refused(settings: dict[str, str], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        WorkerConfig(**settings)  # type: ignore[arg-type]


def test_the_key_is_the_first_line_of_its_file(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("secret\nmore\n")
    config = WorkerConfig(engine="vllm", engine_url="http://h:1", engine_key_file=str(file))
    assert config.engine_key() == "secret"
    file.write_text("")
    with pytest.raises(SettingsError, match="has no key in its first line"):
        config.engine_key()
    with pytest.raises(SettingsError, match="cannot be read"):
        replace(config, engine_key_file=str(tmp_path / "none")).engine_key()


def test_the_worker_of_a_vllm_server_loads_no_torch() -> None:
    program = (
        "import sys, cloud_worker.worker, cloud_worker.vllm_target.engine\n"
        "print({name.partition('.')[0] for name in sys.modules} & {'torch', 'transformers', 'safetensors'})"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
