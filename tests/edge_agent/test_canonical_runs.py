"""Quantised graphs: what was read before, and in which runs, never changes a number."""

import asyncio
from itertools import pairwise
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent import AgentConfig, EdgeAgent
from edge_agent.draft_model.canonical_runs import RUN, kept, runs
from edge_agent.draft_model.draft_model import DraftModel
from edge_agent.export.graphs import build_rounded
from edge_agent.export.quiet import quiet
from tests.support.small_models import VOCAB_SIZE, FolderOf


@pytest.fixture(scope="module", params=["int8", "int4"])
def quantised(
    request: pytest.FixtureRequest, family_folder: FolderOf, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    precision: Literal["int8", "int4"] = request.param
    out = tmp_path_factory.mktemp(precision)
    with quiet():
        build_rounded(family_folder("llama"), out, precision, False, print)
    return out


def load(folder: Path, num_prompt: int) -> DraftModel:
    draft = DraftModel.load(folder, num_threads=1)
    draft.splits_matter = True  # on every processor
    draft.begin_text(num_prompt)
    return draft


def test_windows_rewinds_and_earlier_texts_leave_the_logits_of_a_quantised_graph(quantised: Path) -> None:
    rng = np.random.default_rng(5)
    num_prompt = 2 * RUN + 7
    text = [int(token) for token in rng.integers(VOCAB_SIZE, size=num_prompt + 40)]
    plain = load(quantised, num_prompt)
    expected = {end: plain.logits(text[:end]) for end in range(num_prompt, len(text) + 1)}
    restless = load(quantised, num_prompt)
    for _ in range(60):
        end = int(rng.integers(num_prompt, len(text) + 1))
        if rng.random() < 0.3:  # tokens that are rejected
            restless.logits(text[:end] + [1] * int(rng.integers(1, 6)))
        if rng.random() < 0.2:  # another text, which begins alike
            other = int(rng.integers(1, len(text)))
            restless.begin_text(other)
            restless.logits(text[: int(rng.integers(other, len(text) + 1))])
            restless.begin_text(num_prompt)
        assert np.array_equal(restless.logits(text[:end]), expected[end])


def test_float_graphs_keep_their_free_runs(twin_folder: FolderOf) -> None:
    assert not DraftModel.load(twin_folder("llama"), num_threads=1).splits_matter


def test_an_agent_gives_its_model_the_length_of_the_prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    lengths: list[int] = []

    def noted(_: DraftModel, num_prompt: int) -> None:
        lengths.append(num_prompt)

    async def answer() -> int:
        async with EdgeAgent.open(AgentConfig(scheme="slm", max_tokens=3, raw=True)) as agent:
            assert [token async for token in agent.generate("turn on the light", seed=1)]
            return len(agent.text.encode("turn on the light"))

    monkeypatch.setattr(DraftModel, "begin_text", noted)
    expected = asyncio.run(answer())
    assert set(lengths) == {expected}


def ends_of(num_prompt: int, length: int) -> list[int]:
    return [0, *runs(0, length, num_prompt)]


@given(num_prompt=st.integers(1, 150), length=st.integers(0, 40))
def test_runs_cover_every_token_once_and_later_ones_alone(num_prompt: int, length: int) -> None:
    ends = ends_of(num_prompt, num_prompt + length)
    assert ends[-1] == num_prompt + length
    assert num_prompt in ends
    assert all(0 < end - start <= (1 if start >= num_prompt else RUN) for start, end in pairwise(ends))


@given(
    old=st.integers(1, 150),
    new=st.integers(1, 150),
    grown=st.tuples(st.integers(0, 40), st.integers(0, 40)),
    common=st.integers(0, 190),
)
def test_what_is_kept_was_read_in_the_runs_of_the_new_text(
    old: int, new: int, grown: tuple[int, int], common: int
) -> None:
    common = min(common, old + grown[0], new + grown[1])
    keep = kept(common, new + grown[1], new, old)
    assert keep <= common
    assert keep < new + grown[1]
    was, wanted = ends_of(old, old + grown[0]), ends_of(new, new + grown[1])
    assert [end for end in was if end <= keep] == [end for end in wanted if end <= keep]
    assert keep in wanted
    assert kept(common, new + grown[1], new, None) == 0
