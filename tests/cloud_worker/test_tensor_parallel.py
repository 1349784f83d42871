"""A target model split over processes, as over several GPUs: gloo on a CPU stands in for NCCL."""

import asyncio
import os
import signal
from pathlib import Path

import pytest

from cloud_worker.config import WorkerConfig
from cloud_worker.target_model import TargetModelError, open_target_model
from edge_agent.config import AgentConfig
from evaluation.local.broker import LocalBroker
from evaluation.local.worker import LocalWorker
from tests.support.processes import answers, generate, greedy_answers
from tests.support.small_models import FolderOf

PROMPT = "turn on the kitchen light"


def test_a_split_model_writes_the_same_text_and_the_worker_ends_when_a_share_is_lost(
    broker: LocalBroker, family_folder: FolderOf, draft_folder: FolderOf
) -> None:
    target = family_folder("llama")
    arguments = ("--model", str(target), "--tensor-parallel", "2", "--num-threads", "1")
    config = AgentConfig(
        broker=broker.url,
        model=str(draft_folder("llama")),
        temperature=0.0,
        max_tokens=32,
        cloud_timeout=3.0,
    )
    with LocalWorker(broker.url, *arguments) as worker:
        generations = asyncio.run(generate(config, PROMPT, PROMPT))
        assert answers(generations) == greedy_answers(target, generations)
        os.kill(share_of(worker.pid), signal.SIGKILL)
        (lost,) = asyncio.run(generate(config, PROMPT))
        assert lost.failure is not None
        assert "a process of the tensor parallel group failed" in worker.log
        assert "Traceback" not in worker.log


def share_of(pid: int) -> int:
    """The process that holds the other share of the model."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return next(
        int(child) for child in children if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()
    )


def test_a_model_that_cannot_be_split_evenly_is_refused(family_folder: FolderOf) -> None:
    config = WorkerConfig(model=str(family_folder("llama")), tensor_parallel=3)
    with (
        pytest.raises(TargetModelError, match="4 attention heads and 2 key/value heads"),
        open_target_model(config),
    ):
        pass


def test_a_model_without_a_plan_is_refused(family_folder: FolderOf) -> None:
    config = WorkerConfig(model=str(family_folder("gpt2")), tensor_parallel=2)
    with pytest.raises(TargetModelError, match="no tensor parallel plan"), open_target_model(config):
        pass
