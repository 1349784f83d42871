"""Names become folders, folders become one value, and whatever is wrong with them is one sentence."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from huggingface_hub.errors import HfHubHTTPError

from common.sampling.distribution import Sampling
from edge_agent.draft_model import hub as model_hub
from edge_agent.draft_model.choice import choose
from edge_agent.draft_model.draft_model import DraftModel
from edge_agent.draft_model.files import DEMO_FOLDER, read_info
from edge_agent.draft_model.source import resolve
from edge_agent.errors import ModelError
from edge_agent.text.tokenizer import Text
from tests.support.small_models import MAX_POSITIONS, FolderOf

CONFIG = {"max_position_embeddings": 64, "num_attention_heads": 4, "hidden_size": 32, "eos_token_id": 1}


def make(folder: Path, graph: str = "model.onnx", **files: object) -> Path:
    """A model folder; a keyword `config` is written as config.json."""
    (folder / graph).parent.mkdir(parents=True, exist_ok=True)
    (folder / graph).touch()
    for name, content in {"config": CONFIG, **files}.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return folder


def refusal(call: Callable[[], object]) -> str:
    """The one sentence on one line with which `call` fails."""
    with pytest.raises(ModelError) as caught:
        call()
    message = str(caught.value)
    assert message.endswith(".")
    assert "\n" not in message
    return message


def test_an_exported_folder_tells_what_the_agent_needs(twin_folder: FolderOf) -> None:
    info = read_info(twin_folder("llama"))
    assert info.onnx_path == info.folder / "model.onnx"
    assert (info.eos_ids, info.max_positions) == ({1}, MAX_POSITIONS)
    assert (info.num_cache_heads, info.head_size) == (2, 16)
    assert info.special_tokens == {"bos_token": "<s>", "eos_token": "</s>"}
    assert info.chat_template is not None


def test_sampling_is_greedy_unless_the_makers_say_otherwise(tmp_path: Path) -> None:
    assert read_info(make(tmp_path)).sampling == Sampling(temperature=0.0)
    recommended = {"do_sample": True, "temperature": 0.6, "top_k": 20, "top_p": 0.95}
    assert read_info(make(tmp_path, generation_config=recommended)).sampling == Sampling(0.6, 20, 0.95)
    assert read_info(make(tmp_path, generation_config={"do_sample": True})).sampling == Sampling(1.0, 0, 1.0)


def test_the_generation_configuration_names_the_end_tokens_first(tmp_path: Path) -> None:
    assert read_info(make(tmp_path)).eos_ids == {1}
    assert read_info(make(tmp_path, generation_config={"eos_token_id": [7, 8]})).eos_ids == {7, 8}


def test_head_sizes_are_worked_out_when_they_are_not_written_down(tmp_path: Path) -> None:
    info = read_info(make(tmp_path))
    assert (info.num_cache_heads, info.head_size) == (4, 8)


def test_the_text_part_of_a_multimodal_configuration_counts(tmp_path: Path) -> None:
    make(tmp_path, config={"eos_token_id": 3, "text_config": {"n_positions": 99, "n_head": 2, "n_embd": 6}})
    info = read_info(tmp_path)
    assert (info.max_positions, info.num_cache_heads, info.head_size, info.eos_ids) == (99, 2, 3, {3})


def test_a_folder_of_the_genai_builder_alone_is_enough(tmp_path: Path) -> None:
    decoder = {"head_size": 16, "num_key_value_heads": 2}
    make(tmp_path, genai_config={"model": {"context_length": 50, "eos_token_id": 4, "decoder": decoder}})
    (tmp_path / "config.json").unlink()
    info = read_info(tmp_path)
    assert (info.max_positions, info.num_cache_heads, info.head_size, info.eos_ids) == (50, 2, 16, {4})


def test_chat_templates_are_found_in_all_their_places(tmp_path: Path) -> None:
    make(tmp_path, tokenizer_config={"chat_template": "plain"})
    assert read_info(tmp_path).chat_template == "plain"
    named = [{"name": "tool_use", "template": "tools"}, {"name": "default", "template": "named"}]
    make(
        tmp_path,
        tokenizer_config={"chat_template": named, "bos_token": {"content": "<s>"}, "eos_token": None},
    )
    assert read_info(tmp_path).chat_template == "named"
    assert read_info(tmp_path).special_tokens == {"bos_token": "<s>"}
    (tmp_path / "chat_template.jinja").write_text("file")
    assert read_info(tmp_path).chat_template == "file"


def test_small_graphs_go_before_large_ones_and_a_named_one_before_all(tmp_path: Path) -> None:
    make(tmp_path, "onnx/model.onnx")
    assert read_info(tmp_path).onnx_path == tmp_path / "onnx/model.onnx"
    make(tmp_path, "onnx/model_quantized.onnx")
    assert read_info(tmp_path).onnx_path == tmp_path / "onnx/model_quantized.onnx"
    assert read_info(tmp_path, "onnx/model.onnx").onnx_path == tmp_path / "onnx/model.onnx"


def test_a_single_graph_may_have_any_name_but_two_need_a_choice(tmp_path: Path) -> None:
    make(tmp_path, "decoder.onnx")
    assert read_info(tmp_path).onnx_path.name == "decoder.onnx"
    make(tmp_path, "onnx/other.onnx")
    assert "several graphs (decoder.onnx, onnx/other.onnx)" in refusal(lambda: read_info(tmp_path))


def test_what_is_missing_in_a_folder_is_named(tmp_path: Path) -> None:
    assert "no model folder" in refusal(lambda: read_info(tmp_path / "nowhere"))
    assert "no config.json" in refusal(lambda: read_info(tmp_path))
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    assert "no ONNX graph" in refusal(lambda: read_info(tmp_path))
    assert "no file q4.onnx: it has no *.onnx file" in refusal(lambda: read_info(tmp_path, "q4.onnx"))
    make(tmp_path, config={"model_type": "x"})
    assert "max_position_embeddings" in refusal(lambda: read_info(tmp_path))


@pytest.mark.parametrize("content", [b"{", b"[]", b"\xff"])
def test_a_broken_configuration_is_one_sentence(content: bytes, tmp_path: Path) -> None:
    make(tmp_path)
    (tmp_path / "config.json").write_bytes(content)
    assert "config.json" in refusal(lambda: read_info(tmp_path))


def test_demo_and_folders_are_found_without_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def download(*_: object, **__: object) -> None:
        pytest.fail("asked the hub")

    monkeypatch.setattr(model_hub, "snapshot_download", download)
    assert resolve("demo") == DEMO_FOLDER
    assert resolve(str(tmp_path)) == tmp_path


@pytest.mark.parametrize("name", ["/nowhere/model", "./model", "~/no-such-model", "a/b/c"])
def test_a_path_that_is_not_there_is_never_taken_for_a_hub_name(name: str) -> None:
    assert "no model folder" in refusal(lambda: resolve(name))


class Hub:
    """A hub with one repository, and a note of what was asked of it."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.files = ["config.json", "onnx/model.onnx", "onnx/model_q4.onnx", "onnx/model_q4.onnx_data"]
        self.folder = folder
        self.patterns: list[str] = []
        monkeypatch.setattr(model_hub, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(model_hub, "HfApi", lambda: self)
        monkeypatch.setattr(model_hub, "snapshot_download", self.download)

    def model_info(self, name: str, *, timeout: float) -> SimpleNamespace:
        assert (name, timeout < 10) == ("someone/model", True)
        return SimpleNamespace(siblings=[SimpleNamespace(rfilename=file) for file in self.files])

    def download(self, name: str, *, allow_patterns: list[str], local_files_only: bool) -> str:
        assert name == "someone/model"
        self.patterns = [*allow_patterns, *(["offline"] if local_files_only else [])]
        return str(self.folder)


def test_one_graph_with_its_weights_is_fetched_from_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = Hub(tmp_path, monkeypatch)
    assert resolve("someone/model") == tmp_path
    assert hub.patterns == ["*.json", "*.jinja", "onnx/model_q4.onnx*"]
    resolve("someone/model", model_file="onnx/model.onnx")
    assert hub.patterns == ["*.json", "*.jinja", "onnx/model.onnx*"]
    resolve("someone/model", model_file="onnx/model.onnx", offline=True)
    assert hub.patterns[-1] == "offline"


def test_a_repository_without_a_graph_says_how_to_make_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = Hub(tmp_path, monkeypatch)
    hub.files = ["config.json", "model.safetensors"]
    assert "edge-agent export someone/model" in refusal(lambda: resolve("someone/model"))


def test_without_a_connection_the_cache_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = Hub(tmp_path, monkeypatch)

    def fail(_: str, **_settings: float) -> None:
        raise HfHubHTTPError.__bases__[0]("no route")  # of the HTTP library, and not always an OSError

    monkeypatch.setattr(hub, "model_info", fail)
    assert resolve("someone/model") == tmp_path
    assert hub.patterns == ["*.json", "*.jinja", "offline"]


def test_a_model_that_cannot_be_fetched_is_one_sentence() -> None:
    assert "hub cannot be reached" in refusal(lambda: resolve("someone/no-such-model", offline=True))
    assert "cannot be fetched" in refusal(lambda: resolve("not a name", offline=True))


def test_fields_of_generation_config_that_would_change_the_text_and_are_not_applied_are_named(
    tmp_path: Path,
) -> None:
    fields = {"no_repeat_ngram_size": 3, "num_beams": 4, "bad_words_ids": [[3]]}
    neutral = {
        "encoder_no_repeat_ngram_size": 0,
        "typical_p": 1.0,
        "stop_strings": None,
        "suppress_tokens": [],
    }
    honoured = {"do_sample": True, "temperature": 0.7, "top_k": 20, "top_p": 0.8, "eos_token_id": [1, 2]}
    folder = make(tmp_path, generation_config={**fields, **neutral, **honoured, "pad_token_id": 0})
    assert read_info(folder).unhonoured == tuple(sorted(fields))
    assert read_info(make(tmp_path, generation_config={**neutral, **honoured})).unhonoured == ()
    assert read_info(DEMO_FOLDER).unhonoured == ()


# -- listings as they occur on the hub -----------------------------------------------------------------

PHI = "cpu_and_mobile/cpu-int4-rtn-block-32"
LISTINGS: dict[str, tuple[list[str], list[str]]] = {
    "onnx-community": (
        ["onnx/model.onnx", "onnx/model_q4.onnx", "onnx/model_fp16.onnx"],
        ["onnx/model_q4.onnx"],
    ),
    "merged only": (
        [
            "onnx/decoder_model.onnx",
            "onnx/decoder_with_past_model.onnx",
            "onnx/decoder_model_merged.onnx",
            "onnx/decoder_model_merged_quantized.onnx",
            "onnx/decoder_model_quantized.onnx",
        ],
        ["onnx/decoder_model_merged_quantized.onnx"],
    ),
    "merged, one precision": (["onnx/decoder_model_merged.onnx"], ["onnx/decoder_model_merged.onnx"]),
    "merged, at the top": (
        ["decoder_model.onnx", "decoder_model_merged.onnx", "decoder_with_past_model.onnx"],
        ["decoder_model_merged.onnx"],
    ),
    "halves": (["onnx/decoder_model.onnx", "onnx/decoder_with_past_model.onnx"], []),
    "genai, one folder": (["genai/genai_config.json", "genai/model.onnx"], ["genai/model.onnx"]),
    "genai, per device": (
        [
            f"{PHI}/genai_config.json",
            f"{PHI}/phi3.onnx",
            "cuda/cuda-fp16/genai_config.json",
            "cuda/cuda-fp16/phi3.onnx",
            "directml/directml-int4/genai_config.json",
            "directml/directml-int4/model.onnx",
        ],
        [f"{PHI}/phi3.onnx"],
    ),
    "genai, two for processors": (
        [
            f"{PHI}{end}/{file}"
            for end in ("", "-acc-level-4")
            for file in ("genai_config.json", "model.onnx")
        ],
        [f"{PHI}-acc-level-4/model.onnx", f"{PHI}/model.onnx"],
    ),
    "genai, none for processors": (
        [f"{end}/{file}" for end in ("cuda", "dml") for file in ("genai_config.json", "model.onnx")],
        ["cuda/model.onnx", "dml/model.onnx"],
    ),
    "no configuration in the folder": (["gpu/model.onnx"], []),
    "one of any name": (["onnx/llama.onnx"], ["onnx/llama.onnx"]),
    "none": (["model.safetensors"], []),
}


@pytest.mark.parametrize(("names", "chosen"), LISTINGS.values(), ids=LISTINGS)
def test_the_same_graph_is_chosen_on_the_hub_and_in_a_folder(
    names: list[str], chosen: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert choose(names) == chosen
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("{}")
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    hub = Hub(tmp_path, monkeypatch)
    hub.files = ["config.json", *names]
    if len(chosen) == 1:
        assert read_info(tmp_path).onnx_path == tmp_path / chosen[0]
        resolve("someone/model")
        assert hub.patterns[2:] == [f"{chosen[0]}*"]
        return
    here, there = refusal(lambda: read_info(tmp_path)), refusal(lambda: resolve("someone/model"))
    for message in (here, there):
        assert all(name in message for name in chosen)
        assert ("set `model_file` to one" if chosen else "edge-agent export") in message
        assert ("decoder_with_past_model" in message) == any("with_past" in name for name in names)


def test_a_graph_in_a_folder_of_its_own_goes_with_the_files_beside_it(
    tmp_path: Path, twin_folder: FolderOf
) -> None:
    own = tmp_path / PHI
    shutil.copytree(twin_folder("llama"), own)
    (own / "config.json").rename(tmp_path / "config.json")  # the hub has it at the top, or nowhere
    decoder = {"head_size": 16, "num_key_value_heads": 2}
    genai = {"model": {"context_length": 50, "eos_token_id": 4, "decoder": decoder}}
    (own / "genai_config.json").write_text(json.dumps(genai))
    for model_file in (None, f"{PHI}/model.onnx"):
        info = read_info(tmp_path, model_file)
        assert (info.folder, info.onnx_path, info.max_positions) == (own, own / "model.onnx", 50)
        assert Text.load(info).encode("light")
        assert DraftModel.load(tmp_path, model_file=model_file).logits([1, 2]).shape == (384,)


def test_a_graph_in_a_folder_without_a_tokenizer_uses_the_one_at_the_top(tmp_path: Path) -> None:
    make(tmp_path, "genai/model.onnx")
    (tmp_path / "genai" / "genai_config.json").write_text("{}")
    assert read_info(tmp_path).folder == tmp_path
