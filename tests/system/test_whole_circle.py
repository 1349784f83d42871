"""Real processes: mosquitto, workers with transformers models, agents with their ONNX twins."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from edge_agent.config import AgentConfig
from edge_agent.generation.generation import Generation
from evaluation.local.broker import LocalBroker
from evaluation.local.worker import LocalWorker, LocalWorkers
from tests.support.narrowing import present
from tests.support.processes import answers, generate, greedy_answers
from tests.support.small_models import FAMILIES, FolderOf

PROMPTS = ("turn on the kitchen light", "What is the temperature?", "Öffne das Fenster 🙂")


@pytest.mark.parametrize(
    "family",
    [pytest.param(each, marks=[pytest.mark.slow] if each != "llama" else []) for each in FAMILIES],
)
def test_greedy_text_is_the_targets_own_through_the_broker(
    family: str, broker: LocalBroker, family_folder: FolderOf, draft_folder: FolderOf
) -> None:
    target, draft = family_folder(family), draft_folder(family)
    with LocalWorker(broker.url, "--model", str(target)):
        for scheme, window in (("lossless", 1), ("lossless", 4), ("coupled", 4), ("llm", 1), ("hlm", 1)):
            config = AgentConfig(
                broker=broker.url,
                model=str(draft),
                scheme=scheme,
                window=window,
                temperature=0.0,
                max_tokens=32,
            )
            generations = asyncio.run(generate(config, *PROMPTS))
            assert answers(generations) == greedy_answers(target, generations), scheme


def test_the_workers_context_limit_ends_the_text_with_length_in_every_exact_scheme(
    broker: LocalBroker, family_folder: FolderOf, draft_folder: FolderOf
) -> None:
    target = family_folder("llama")
    with LocalWorker(broker.url, "--model", str(target), "--max-context", "40"):
        for scheme, window in (("lossless", 1), ("lossless", 4), ("coupled", 4), ("llm", 1), ("hlm", 1)):
            config = circle_config(broker, draft_folder("llama"), scheme=scheme, window=window, temperature=0)
            generations = asyncio.run(generate(config, *PROMPTS))
            assert answers(generations) == greedy_answers(target, generations), scheme
            for one in generations:
                assert (len(one.session.tokens), one.session.finish_reason) == (40, "length"), scheme


def test_a_prompt_that_goes_ahead_is_read_once_and_gives_the_targets_own_text(
    broker: LocalBroker, family_folder: FolderOf, draft_folder: FolderOf
) -> None:
    target, long_prompt = family_folder("llama"), " ".join(PROMPTS * 2)
    arguments = ("--model", str(target), "--chunk-tokens", "32", "--log-level", "debug")
    with LocalWorker(broker.url, *arguments) as worker:
        for number, (scheme, window) in enumerate(
            (("lossless", 1), ("lossless", 4), ("coupled", 4), ("hlm", 1))
        ):
            config = circle_config(
                broker, draft_folder("llama"), scheme=scheme, window=window, temperature=0, max_tokens=12
            )
            generations = asyncio.run(generate(config, f"{scheme} {window}: {long_prompt}"))
            assert answers(generations) == greedy_answers(target, generations), scheme
            assert worker.log.count("only to be read") == number + 1


def circle_config(broker: LocalBroker, draft: Path, **settings: str | int) -> AgentConfig:
    usual = AgentConfig(broker=broker.url, model=str(draft), temperature=1.0, max_tokens=60)
    return replace(usual, **settings)


@pytest.mark.parametrize(
    "scheme",
    [
        "lossless",
        *(
            pytest.param(each, marks=pytest.mark.slow)
            for each in ("coupled", "opportunistic", "cu-hlm-online", "llm")
        ),
    ],
)
def test_a_killed_worker_changes_nothing_in_the_text(
    scheme: str, broker: LocalBroker, family_folder: FolderOf, draft_folder: FolderOf
) -> None:
    arguments = ("--model", str(family_folder("llama")))
    with LocalWorkers(broker.url, *arguments, names=("first", "second")) as workers:
        config = circle_config(broker, draft_folder("llama"), scheme=scheme, seed=11)
        undisturbed = asyncio.run(generate(config, PROMPTS[0]))
        killed: list[LocalWorker] = []

        def kill(generation: Generation) -> None:
            killed.append(workers[present(generation.session.worker)])
            killed[0].kill()

        disturbed = asyncio.run(generate(config, PROMPTS[0], midway=kill))
        assert answers(disturbed) == answers(undisturbed)
        assert disturbed[0].session.worker != killed[0].name


def test_a_restarted_broker_changes_nothing_in_the_text(
    broker: LocalBroker, family_folder: FolderOf, draft_folder: FolderOf
) -> None:
    with LocalWorker(broker.url, "--model", str(family_folder("llama"))):
        for scheme in ("lossless", "llm"):
            config = circle_config(broker, draft_folder("llama"), scheme=scheme, seed=5)
            undisturbed = asyncio.run(generate(config, PROMPTS[0]))

            def restart(_: Generation) -> None:
                broker.kill()
                broker.start()

            disturbed = asyncio.run(generate(config, PROMPTS[0], midway=restart))
            assert answers(disturbed) == answers(undisturbed), scheme
            tally, calm = disturbed[0].session.tally, undisturbed[0].session.tally
            assert tally.num_resent > 0 or tally.num_uplinks > calm.num_uplinks


def test_several_workers_share_the_sessions_and_sigterm_loses_nothing(
    broker: LocalBroker, family_folder: FolderOf, draft_folder: FolderOf
) -> None:
    config = circle_config(broker, draft_folder("llama"), seed=2)
    arguments = ("--model", str(family_folder("llama")))
    with LocalWorkers(broker.url, *arguments, names=("first", "second")) as workers:
        generations = asyncio.run(generate(config, *[PROMPTS[0]] * 4))
        assert {one.session.worker for one in generations} == {"first", "second"}
        assert len({tuple(answer) for answer in answers(generations)}) == 1
        codes: list[int] = []

        def stop(generation: Generation) -> None:
            codes.append(workers[present(generation.session.worker)].stop())

        disturbed = asyncio.run(generate(config, PROMPTS[0], midway=stop))
    assert answers(disturbed) == answers(generations)[:1]
    assert codes == [0]
