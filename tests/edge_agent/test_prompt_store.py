"""The prompt cache: it saves reading and nothing else; what is damaged or foreign is left aside."""

import asyncio
import logging
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edge_agent import AgentConfig, ConfigError, EdgeAgent
from edge_agent.draft_model import prompt_store
from edge_agent.draft_model.canonical_runs import RUN
from edge_agent.draft_model.draft_model import DraftModel
from edge_agent.draft_model.files import DEMO_FOLDER
from edge_agent.draft_model.graph import CacheTensor
from edge_agent.draft_model.onnx_session import Array
from edge_agent.draft_model.prompt_file import Layout
from edge_agent.draft_model.prompt_store import LEAST_GAIN, SUFFIX, PromptStore, graph_fingerprint

REAL_MODEL = os.environ.get("REAL_DRAFT_MODEL", "")  # a folder with an int4 or int8 graph
MEGABYTE = 1 << 20
PROMPT = [index * 7 % 200 + 5 for index in range(5 * RUN + 7)]
LAYOUT = Layout("0123456789abcdef", (CacheTensor("past.key", "present.key", 2, 4, np.float32),))


def loaded(folder: Path, cache: Path, *, splits_matter: bool = True) -> DraftModel:
    model = DraftModel.load(folder, num_threads=1)
    model.splits_matter = splits_matter
    model.keep_prompts(str(cache), 512 * MEGABYTE, providers=())
    return model


def files(folder: Path) -> list[Path]:
    return sorted(folder.glob(f"*{SUFFIX}"))


def cached(folder: Path) -> Path:
    """The one file of `PROMPT`, read by the demo model."""
    model = loaded(DEMO_FOLDER, folder)
    model.begin_text(len(PROMPT))
    model.logits(PROMPT)
    model.save_prompt()
    (file,) = files(folder)
    return file


@pytest.mark.parametrize("splits_matter", [True, False])
@pytest.mark.parametrize(
    "folder",
    [
        DEMO_FOLDER,
        pytest.param(
            Path(REAL_MODEL), marks=pytest.mark.skipif(not REAL_MODEL, reason="needs REAL_DRAFT_MODEL")
        ),
    ],
    ids=["demo", "real"],
)
def test_a_restored_prompt_gives_the_numbers_of_one_that_is_read(
    folder: Path, splits_matter: bool, tmp_path: Path
) -> None:
    if folder != DEMO_FOLDER and not splits_matter:
        pytest.skip("its numbers depend on splits")
    prompts = PROMPT, PROMPT[: 4 * RUN + 3] + [9] * 20
    first, expected = loaded(folder, tmp_path, splits_matter=splits_matter), list[np.ndarray]()
    for prompt in (*prompts, PROMPT):
        first.begin_text(len(prompt))
        expected += [first.logits([*prompt, *range(5, 5 + more)]) for more in range(4)]
    first.save_prompt()
    for index, prompt in enumerate(prompts):
        again, read = loaded(folder, tmp_path, splits_matter=splits_matter), list[int]()
        again.begin_text(len(prompt))
        read += [num_tokens for _, num_tokens in again.reading(prompt)]
        given = [again.logits([*prompt, *range(5, 5 + more)]) for more in range(4)]
        assert max(read, default=0) <= len(prompt) - 4 * RUN
        for one, other in zip(given, expected[4 * index :], strict=False):
            if splits_matter:
                assert np.array_equal(one, other)
            else:
                np.testing.assert_allclose(one, other, atol=1e-3)


def test_the_next_turn_of_a_chat_reads_only_what_is_new() -> None:
    model = DraftModel.load(DEMO_FOLDER, num_threads=1)
    model.begin_text(len(PROMPT))
    model.logits(PROMPT)
    turn = [*PROMPT, *range(5, 25)]
    for splits_matter, num_read in ((False, 20), (True, 20 + len(PROMPT) % RUN)):
        model.splits_matter = splits_matter
        model.begin_text(len(PROMPT))
        model.logits([1])
        model.logits(PROMPT)
        assert model.num_unread(turn, len(turn)) == num_read


def test_a_prompt_is_written_when_memory_loses_it_and_only_once(tmp_path: Path) -> None:
    model = loaded(DEMO_FOLDER, tmp_path)
    for _ in range(2):
        for prompt in (PROMPT, [9] * len(PROMPT)):
            model.begin_text(len(prompt))
            model.logits(prompt)
            assert len(files(tmp_path)) <= 2
    model.save_prompt()
    written = {path: path.stat().st_ino for path in files(tmp_path)}
    assert len(written) == 2
    model.begin_text(len(PROMPT))
    model.logits(PROMPT)
    model.save_prompt()
    assert {path: path.stat().st_ino for path in files(tmp_path)} == written


def test_nothing_is_written_for_a_short_prompt(tmp_path: Path) -> None:
    model = loaded(DEMO_FOLDER, tmp_path)
    model.begin_text(LEAST_GAIN - 1)
    model.logits(PROMPT[: LEAST_GAIN - 1])
    model.save_prompt()
    assert files(tmp_path) == []


def test_files_are_private(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "cache"
    file = cached(folder)
    assert folder.stat().st_mode & 0o777 == 0o700
    assert file.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in folder.iterdir()] == [file.name]


def flipped(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000])


def foreign(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b'"fingerprint": "', b'"fingerprint": "0', 1))


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def another_format(path: Path) -> None:
    path.write_bytes(b"\x80" * 999)


def linked(path: Path) -> None:
    path.rename(path.with_suffix(".old"))
    path.symlink_to(path.with_suffix(".old"))


def shared(path: Path) -> None:
    path.chmod(0o666)


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("harm", [flipped, cut, foreign, emptied, another_format, linked, shared, a_folder])
def test_a_file_that_cannot_be_trusted_is_ignored_with_one_line(
    harm: Callable[[Path], None], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = cached(tmp_path)
    plain = DraftModel.load(DEMO_FOLDER, num_threads=1)
    plain.splits_matter = True
    plain.begin_text(len(PROMPT))
    expected = plain.logits(PROMPT)
    harm(file)
    model = loaded(DEMO_FOLDER, tmp_path)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            model.begin_text(len(PROMPT))
            assert np.array_equal(model.logits(PROMPT), expected)
            model.begin_text(1)
            model.logits([1])
    ignored = [one for one in caplog.records if "ignored" in one.getMessage()]
    assert len(ignored) == 1
    assert "\n" not in ignored[0].getMessage()


def entry(number: int, length: int = 128) -> tuple[list[int], Callable[[], dict[str, Array]]]:
    array = np.full((1, 2, length, 4), number, np.float32)
    return [number] * length, lambda: {"past.key": array}


def test_the_folder_stays_within_its_bound_and_the_least_used_go_first(tmp_path: Path) -> None:
    size = LAYOUT.size(128)
    store = PromptStore(tmp_path, LAYOUT, 2 * size)
    for number in (1, 2):
        store.save(*entry(number))
        for path in files(tmp_path):
            os.utime(path, (number, number)) if path.stat().st_mtime > 9 else None
    assert store.find([1] * 128, 0) is not None  # now the last used
    store.save(*entry(3))
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 2 * size
    assert [store.find([number] * 128, 0) is not None for number in (1, 2, 3)] == [True, False, True]
    store.save(*entry(4, length=500))  # does not fit at all
    assert len(files(tmp_path)) == 2


def test_a_longer_prompt_takes_the_place_of_its_beginning(tmp_path: Path) -> None:
    store = PromptStore(tmp_path, LAYOUT, MEGABYTE)
    store.save(*entry(1))
    store.save(*entry(1, length=256))
    assert len(files(tmp_path)) == 1
    found = store.find([1] * 300, 0)
    assert found is not None
    assert found[0] == 256


def test_only_what_saves_reading_is_loaded(tmp_path: Path) -> None:
    store = PromptStore(tmp_path, LAYOUT, MEGABYTE)
    store.save(*entry(1))
    assert store.find([1] * 128, 128 - LEAST_GAIN + 1) is None
    assert store.find([2, *[1] * 127], 0) is None
    found = store.find([1] * 100 + [2] * 28, 0)
    assert found is not None
    length, arrays = found
    assert (length, arrays["past.key"].shape) == (96, (1, 2, 96, 4))


def test_a_full_disk_costs_one_line_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(prompt_store, "write_prompt", full)
    store = PromptStore(tmp_path, LAYOUT, MEGABYTE)
    with caplog.at_level(logging.WARNING):
        store.save(*entry(1))
    assert "No space left on device" in caplog.text
    assert list(tmp_path.iterdir()) == []


def test_partial_files_of_processes_that_have_ended_are_deleted(tmp_path: Path) -> None:
    old, new = tmp_path / "a.partial", tmp_path / "b.partial"
    for path in (old, new):
        path.write_bytes(b"x")
    os.utime(old, (1, 1))
    PromptStore(tmp_path, LAYOUT, MEGABYTE).save(*entry(1))
    assert (old.exists(), new.exists()) == (False, True)


def test_a_graph_that_changes_gets_another_name(tmp_path: Path) -> None:
    graph = tmp_path / "model.onnx"
    graph.write_bytes(b"a" * 99)
    os.utime(graph, (1, 1))
    names = {graph_fingerprint([graph], ()), graph_fingerprint([graph], ("CUDAExecutionProvider",))}
    graph.write_bytes(b"a" * 98 + b"b")
    os.utime(graph, (1, 1))
    names.add(graph_fingerprint([graph], ()))
    os.utime(graph, (2, 2))
    names.add(graph_fingerprint([graph], ()))
    assert len(names) == 4


def test_a_folder_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot use `prompt_cache`"):
        PromptStore(tmp_path / "file", LAYOUT, MEGABYTE)


def test_an_agent_that_starts_again_has_its_prompt_and_the_same_text(tmp_path: Path) -> None:
    prompt = "turn on the light in the kitchen and close the window of the hall, " * 20

    async def answer() -> tuple[str, int]:
        config = AgentConfig(
            scheme="slm", seed=1, max_tokens=8, raw=True, prompt_cache=str(tmp_path), prompt_cache_mb=64
        )
        read: list[int] = []
        async with EdgeAgent.open(config) as agent:
            generation = agent.generate(prompt)
            generation.watch_prompt(lambda _, num_tokens: read.append(num_tokens))
            async for _ in generation:
                pass
            return generation.text, max(read, default=0)

    first, second = asyncio.run(answer()), asyncio.run(answer())
    assert first[0] == second[0]
    assert first[1] > 3 * LEAST_GAIN > second[1]
    assert len(files(tmp_path)) == 1
