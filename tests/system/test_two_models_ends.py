"""A draft and a target model on disk whose generation_config.json name different end tokens."""

import asyncio
import json
import shutil
from dataclasses import replace
from pathlib import Path

from edge_agent.config import AgentConfig
from evaluation.local.broker import LocalBroker
from evaluation.local.worker import LocalWorker
from tests.support.processes import answers, generate
from tests.support.small_models import FolderOf

PROMPT = "turn on the kitchen light"
EXACT = (("lossless", 1), ("lossless", 4), ("hlm", 8), ("coupled", 4), ("llm", 1))
PLACE = 12  # of the token that the target model takes for an end


def with_ends(source: Path, folder: Path, ends: list[int]) -> Path:
    """A copy of a model whose end tokens are `ends`."""
    shutil.copytree(source, folder)
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": ends}))
    return folder


def test_every_exact_scheme_ends_at_the_targets_end_token(
    broker: LocalBroker, family_folder: FolderOf, draft_folder: FolderOf, tmp_path: Path
) -> None:
    target, draft = family_folder("llama"), draft_folder("llama")
    config = AgentConfig(
        broker=broker.url,
        model=str(with_ends(draft, tmp_path / "draft", [1])),
        temperature=0.0,
        max_tokens=32,
    )

    def text(scheme: str, window: int) -> tuple[list[int], str | None]:
        chosen = replace(config, scheme=scheme, window=window)
        (generation,) = asyncio.run(generate(chosen, PROMPT))
        return answers([generation])[0], generation.session.finish_reason

    with LocalWorker(broker.url, "--model", str(with_ends(target, tmp_path / "same", [1]))):
        free, reason = text("llm", 1)
        assert (len(free), reason) == (32, "length")
    end = free[PLACE]
    expected = free[: free.index(end) + 1]
    with LocalWorker(broker.url, "--model", str(with_ends(target, tmp_path / "other", [2, end]))):
        for scheme, window in EXACT:
            assert text(scheme, window) == (expected, "stop"), (scheme, window)
