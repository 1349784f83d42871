"""A target model in a GGUF file: the model it was made from, or a one-line error."""

import shutil
import struct
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cloud_worker.passes.forward_pass import Pass
from cloud_worker.target_model import TargetModel, TargetModelError
from cloud_worker.target_model import gguf_source as source_module
from cloud_worker.target_model.gguf_source import open_gguf
from cloud_worker.target_model.loading import DEMO_FOLDER, check_split
from common.gguf.facts import end_ids, generation_settings
from common.gguf.header import GgufError, read_header
from common.gguf.rope import rope_scaling, with_scaling
from common.process.progress_lines import ProgressLines
from common.protocol.fingerprint import fingerprint
from tests.support.gguf_files import write_gguf
from tests.support.narrowing import present

TOKENS = list(range(5, 60))


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_gguf(DEMO_FOLDER, tmp_path_factory.mktemp("gguf") / "demo.gguf", num_padding=7)


@pytest.fixture(scope="module")
def original() -> TargetModel:
    return TargetModel.load("demo", num_threads=1)


def test_a_gguf_worker_is_the_model_that_the_file_was_made_from(file: Path, original: TargetModel) -> None:
    model = TargetModel.load(str(file), num_threads=1)
    assert fingerprint(model.vocabulary) == fingerprint(original.vocabulary)
    assert model.eos_ids == original.eos_ids
    assert model.max_positions == original.max_positions
    (found,), (expected,) = (each.logits([Pass("a", TOKENS, 9)]) for each in (model, original))
    assert np.array_equal(found[:, : expected.shape[1]], expected)


def test_quantised_weights_give_nearly_the_same_logits(tmp_path: Path, original: TargetModel) -> None:
    path = write_gguf(DEMO_FOLDER, tmp_path / "q8.gguf", weights="Q8_0")
    model = TargetModel.load(str(path), num_threads=1)
    (found,), (expected,) = (each.logits([Pass("a", TOKENS, 9)]) for each in (model, original))
    assert 0.0 < np.abs(found - expected).max() < 0.05 * np.abs(expected).max()


def test_the_log_says_what_loading_takes(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    TargetModel.load(str(file), num_threads=1, dtype="bfloat16")
    (line,) = [one.getMessage() for one in caplog.records if "converted to" in one.getMessage()]
    assert "llama, 1.3 million weights, mostly F32; they are converted to bfloat16" in line


# -- files that cannot be used --------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.0, 0.00001, 0.001, 0.01, 0.9, 0.99999])
def test_a_truncated_file_is_refused(share: float, file: Path, tmp_path: Path) -> None:
    data = file.read_bytes()
    path = tmp_path / "cut.gguf"
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(TargetModelError, match="download it again"):
        open_gguf(str(path))


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    shutil.copyfile(DEMO_FOLDER / "model.safetensors", path)
    with pytest.raises(TargetModelError, match="is not a GGUF file"):
        open_gguf(str(path))


def test_random_damage_to_the_head_never_ends_in_another_error(file: Path, tmp_path: Path) -> None:
    data = file.read_bytes()
    path = tmp_path / "damaged.gguf"
    rng = np.random.default_rng(1)
    for _ in range(200):
        damaged = bytearray(data)
        for place in rng.integers(4, 3000, 3).tolist():
            damaged[place] = int(rng.integers(256))
        path.write_bytes(damaged)
        with suppress(TargetModelError):
            open_gguf(str(path))


@pytest.mark.parametrize(
    ("place", "form", "value"),
    [(8, "<Q", 1 << 60), (16, "<Q", 1 << 60), (24, "<Q", 1 << 62), (8, "<Q", 1 << 63)],
)
def test_huge_counts_are_refused_before_memory_is_taken(
    place: int, form: str, value: int, file: Path, tmp_path: Path
) -> None:
    data = bytearray(file.read_bytes())
    struct.pack_into(form, data, place, value)
    path = tmp_path / "huge.gguf"
    path.write_bytes(data)
    with pytest.raises(TargetModelError, match="download it again"):
        open_gguf(str(path))


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"split.count": 3}, "one of 3 parts"),
        ({"general.type": "adapter"}, "no language model"),
        ({"llama.block_count": 1 << 30}, "layers"),
        ({"tokenizer.ggml.model": "bert"}, "the tokenizer 'bert'"),
    ],
)
def test_models_that_cannot_be_used_are_named(more: dict[str, Any], said: str, tmp_path: Path) -> None:
    path = write_gguf(DEMO_FOLDER, tmp_path / "model.gguf", more=more)
    with pytest.raises(TargetModelError, match=said):
        open_gguf(str(path))


def test_an_architecture_that_transformers_does_not_read_is_a_one_line_error(tmp_path: Path) -> None:
    path = write_gguf(DEMO_FOLDER, tmp_path / "model.gguf")
    path.write_bytes(path.read_bytes().replace(b"llama", b"lloma"))
    with pytest.raises(TargetModelError, match=r"cannot load .*lloma"):
        TargetModel.load(str(path), num_threads=1)


def test_a_file_without_some_weights_is_refused(tmp_path: Path) -> None:
    path = write_gguf(DEMO_FOLDER, tmp_path / "model.gguf", without=["blk.1.ffn_up.weight"])
    with pytest.raises(TargetModelError, match="1 weights are missing"):
        TargetModel.load(str(path), num_threads=1)


def test_a_missing_package_is_named(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def without_gguf(_: str) -> None:
        return None

    monkeypatch.setattr(source_module, "find_spec", without_gguf)
    with pytest.raises(TargetModelError, match=r"pip install 'hybrid-lm\[gguf\]'"):
        open_gguf(str(file))


def test_a_file_that_is_not_there_is_no_hub_name(tmp_path: Path) -> None:
    with pytest.raises(TargetModelError, match="there is no file"):
        open_gguf(str(tmp_path / "no.gguf"))
    assert open_gguf("demo") is None


def test_a_folder_with_a_gguf_file_names_it(file: Path) -> None:
    with pytest.raises(TargetModelError, match=r"has no config.json: choose .*demo\.gguf"):
        TargetModel.load(str(file.parent))


def test_a_gguf_file_is_not_split_over_processes(file: Path) -> None:
    with pytest.raises(TargetModelError, match="cannot be split over processes"):
        check_split(str(file), 2)


# -- what the metadata says -----------------------------------------------------------------------------


def test_all_end_tokens_are_known_as_in_llama_cpp(tmp_path: Path) -> None:
    keys = {"tokenizer.ggml.eot_token_id": 9, "tokenizer.ggml.eom_token_id": 1 << 20}
    header = read_header(write_gguf(DEMO_FOLDER, tmp_path / "model.gguf", more=keys))
    assert {3, 9} <= end_ids(header)
    assert max(end_ids(header)) < 1280


def test_the_sampling_of_the_file_is_in_the_terms_of_generation_config(tmp_path: Path) -> None:
    keys = {"general.sampling.temp": 0.7, "general.sampling.top_k": 20, "general.sampling.top_p": 0.8}
    header = read_header(write_gguf(DEMO_FOLDER, tmp_path / "model.gguf", more=keys))
    assert generation_settings(header) == {"do_sample": True, "temperature": 0.7, "top_k": 20, "top_p": 0.8}


def scaled(factor: float, size: int = 16) -> np.ndarray[Any, np.dtype[np.float32]]:
    """What llama.cpp writes for Llama 3.1's rule, by its own formula."""
    found = []
    for number in range(size):
        length = 2 * np.pi * 10000.0 ** (number / size)
        smooth = (8192 / length - 1) / 3
        if length < 8192 / 4:
            found.append(1.0)
        elif length > 8192:
            found.append(factor)
        else:
            found.append(1 / ((1 - smooth) / factor + smooth))
    return np.array(found, np.float32)


def test_llama_3s_scaling_of_frequencies_is_found_in_its_factors(tmp_path: Path) -> None:
    tensors = {"rope_freqs.weight": scaled(8.0)}
    path = write_gguf(DEMO_FOLDER, tmp_path / "model.gguf", tensors=tensors)
    expected = {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }
    assert rope_scaling(read_header(path)) == expected
    config = present(open_gguf(str(path))).config()
    assert config.rope_parameters == {"rope_theta": 10000.0, **expected}
    assert TargetModel.load(str(path), num_threads=1).max_positions == 512


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({}, {}),
        ({"type": "none", "factor": 2.0}, {}),
        ({"type": "linear", "factor": 2.0}, {"rope_type": "linear", "factor": 2.0}),
        (
            {"type": "yarn", "factor": 4.0, "original_context_length": 256},
            {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 256},
        ),
    ],
)
def test_scaling_in_the_metadata_is_kept(
    more: dict[str, Any], expected: dict[str, Any], tmp_path: Path
) -> None:
    keys = {f"llama.rope.scaling.{name}": value for name, value in more.items()}
    assert rope_scaling(read_header(write_gguf(DEMO_FOLDER, tmp_path / "m.gguf", more=keys))) == expected


@pytest.mark.parametrize("name", ["rope_freqs.weight", "rope_factors_long.weight"])
def test_scaling_that_cannot_be_stated_is_refused(name: str, tmp_path: Path) -> None:
    factors = np.linspace(1, 5, 16, dtype=np.float32)
    path = write_gguf(DEMO_FOLDER, tmp_path / "model.gguf", tensors={name: factors})
    with pytest.raises(GgufError, match="scales its rotary frequencies"):
        rope_scaling(read_header(path))


def test_scaling_is_that_of_layers_with_full_attention() -> None:
    both = {"sliding_attention": {"rope_theta": 1.0}, "full_attention": {"rope_theta": 2.0}}
    scaling = {"rope_type": "linear", "factor": 8.0}
    assert with_scaling(both, scaling)["full_attention"] == {"rope_theta": 2.0, **scaling}
    assert with_scaling(both, scaling)["sliding_attention"] == {"rope_theta": 1.0}


def drawn(times: list[float], said: Callable[[str], None]) -> ProgressLines:
    clock = iter(times)
    return ProgressLines(said, lambda: next(clock))


def test_a_bar_becomes_a_line_now_and_then() -> None:
    said: list[str] = []
    stream = drawn([0.0, 5.0, 11.0, 11.0, 12.0], said.append)
    for text in ("\rconverting:   3%|", "\rconverting:  45%|##", "warning", "\rconverting:  46%|##"):
        stream.write(text)
    assert said == ["45 %"]
