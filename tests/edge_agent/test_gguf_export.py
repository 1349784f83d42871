"""Exports of GGUF files: the draft model, tokenizer and settings of the model that the file was made from."""

import json
import os
import sys
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from cloud_worker.target_model.loading import DEMO_FOLDER
from common.gguf.header import Header, read_header
from common.protocol.fingerprint import fingerprint
from edge_agent.__main__ import main
from edge_agent.draft_model.files import read_info
from edge_agent.errors import ModelError
from edge_agent.export import export
from edge_agent.export.gguf_source import write_folder
from edge_agent.export.gguf_tokenizer import write_tokenizer
from edge_agent.text.tokenizer import Text
from tests.support.gguf_files import write_gguf

TEXTS = (
    "What is the temperature in the kitchen? It is 21 °C.",
    "<user>turn it off</s>",
    "今日は晴れです。 🙂 🌡️",
    "   several   blanks\n\n\tand 12345 digits",
)
REAL = Path(os.environ.get("REAL_MODELS", "no such folder"))  # gguf/NAME.gguf, and the folder NAME of each


def ignore(_: str) -> None:
    """Take no notice of progress."""


def test_an_exported_file_is_the_model_and_the_tokenizer_that_it_was_made_from(tmp_path: Path) -> None:
    sampling = {"general.sampling.temp": 0.7, "general.sampling.top_k": 20}
    path = write_gguf(DEMO_FOLDER, tmp_path / "demo.gguf", num_padding=7, more=sampling)
    said: list[str] = []
    report = export(str(path), tmp_path / "out", "fp32", num_threads=1, progress=said.append)
    assert report.agreement.same_argmax == 1.0
    info, original = read_info(tmp_path / "out"), Tokenizer.from_file(str(DEMO_FOLDER / "tokenizer.json"))
    text = Text.load(info)
    assert text.fingerprint == fingerprint(original.get_vocab())
    assert text.has_chat_template
    assert info.eos_ids == {3}
    assert (info.sampling.temperature, info.sampling.top_k) == (0.7, 20)
    found = Tokenizer.from_file(str(tmp_path / "out" / "tokenizer.json"))
    for each in TEXTS:
        assert found.encode(each).ids == original.encode(each).ids
    assert "converted to float32" in said[0]
    assert sorted(one.name for one in tmp_path.iterdir()) == ["demo.gguf", "out"]


def test_half_precision_is_enough_for_quantised_weights(tmp_path: Path) -> None:
    path = write_gguf(DEMO_FOLDER, tmp_path / "demo.gguf", weights="Q8_0")
    (tmp_path / "folder").mkdir()
    write_folder(path, tmp_path / "folder", ignore)
    config = json.loads((tmp_path / "folder" / "config.json").read_text())
    assert config["dtype"] == "float16"
    assert "quantization_config" not in config


def header_with(tmp_path: Path, **more: object) -> Header:
    keys = {f"tokenizer.ggml.{name}": value for name, value in more.items()}
    return read_header(write_gguf(DEMO_FOLDER, tmp_path / "demo.gguf", more=keys))


def written(header: Header, folder: Path) -> Tokenizer:
    write_tokenizer(header, folder, ignore)
    return Tokenizer.from_file(str(folder / "tokenizer.json"))


def test_a_first_token_that_the_file_asks_for_begins_a_plain_prompt(tmp_path: Path) -> None:
    tokenizer = written(header_with(tmp_path, add_bos_token=True, bos_token_id=1), tmp_path)
    assert tokenizer.encode("hello").ids[0] == 1
    assert tokenizer.encode("hello", add_special_tokens=False).ids[0] != 1


@pytest.mark.parametrize(
    ("pre", "pieces"),
    [
        ("gpt-2", ["it", "'s", " 1234", " é"]),
        ("smollm", ["it", "'s", " ", "1", "2", "3", "4", " é"]),
        ("qwen2", ["it", "'s", " ", "1", "2", "3", "4", " é"]),
        ("llama-bpe", ["it", "'s", " ", "123", "4", " é"]),
    ],
)
def test_text_is_split_as_the_file_says(pre: str, pieces: list[str], tmp_path: Path) -> None:
    tokenizer = written(header_with(tmp_path, pre=pre), tmp_path)
    split = tokenizer.pre_tokenizer.pre_tokenize_str("it's 1234 é")
    assert ["it's 1234 é"[start:end] for _, (start, end) in split] == pieces
    normalised = tokenizer.normalizer.normalize_str("e\u0301") if tokenizer.normalizer else "e\u0301"
    assert normalised == ("é" if pre == "qwen2" else "e\u0301")


def test_an_unknown_rule_for_splitting_is_reported(tmp_path: Path) -> None:
    said: list[str] = []
    write_tokenizer(header_with(tmp_path, pre="new-model"), tmp_path, said.append)
    assert "'new-model', which is not known here" in said[0]


def test_a_sentencepiece_vocabulary_keeps_its_tokens_and_joins_them_by_their_scores(tmp_path: Path) -> None:
    bytes_ = [f"<0x{number:02X}>" for number in range(256)]
    letters = ["\u2581", "h", "e", "l", "o", "he", "ll", "llo", "hello", "\u2581hello", "\u2581\u2581"]
    tokens = ["<unk>", "<s>", "</s>", *bytes_, *letters[:-1], "  ", "[PAD269]"]
    types = [2, 3, 3, *[6] * 256, *[1] * 10, 4, 5]
    path = write_gguf(
        DEMO_FOLDER,
        tmp_path / "demo.gguf",
        without=["tokenizer.ggml.merges", "tokenizer.ggml.pre", "tokenizer.ggml.add_bos_token"],
        more={
            "tokenizer.ggml.model": "llama",
            "tokenizer.ggml.tokens": tokens,
            "tokenizer.ggml.scores": [-float(number) for number in range(len(tokens))],
            "tokenizer.ggml.token_type": types,
            "tokenizer.ggml.bos_token_id": 1,
            "tokenizer.ggml.eos_token_id": 2,
            "tokenizer.ggml.unknown_token_id": 0,
        },
    )
    tokenizer = written(read_header(path), tmp_path)
    vocabulary = tokenizer.get_vocab()
    assert "[PAD269]" not in vocabulary
    assert vocabulary["\u2581\u2581"] == 269
    encoded = tokenizer.encode("hello é")
    assert encoded.tokens == ["<s>", "\u2581hello", "\u2581", "<0xC3>", "<0xA9>"]
    assert tokenizer.decode(encoded.ids) == "hello é"


def test_errors_are_one_line_with_advice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "bad.gguf").write_bytes(b"PK\3\4 not a model")
    for name in ("bad.gguf", "missing.gguf"):
        assert main(["export", str(tmp_path / name), str(tmp_path / "out")]) != 0
    lines = capsys.readouterr().err.strip().splitlines()
    assert "is not a GGUF file" in lines[0]
    assert "There is no file at" in lines[-1]
    assert not list(tmp_path.glob("*out*"))


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_gguf(DEMO_FOLDER, tmp_path / "demo.gguf")
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(ModelError, match=r"pip install 'hybrid-lm\[gguf\]'"):
        export(str(path), tmp_path / "out")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["smollm2-135m", "qwen-0.5b"])
def test_real_files_have_the_tokenizer_of_their_model(name: str, tmp_path: Path) -> None:
    path = REAL / "gguf" / f"{name}.gguf"
    if not path.is_file():
        pytest.skip("real models are not on this machine")
    found = written(read_header(path), tmp_path)
    original = Tokenizer.from_file(str(REAL / name / "tokenizer.json"))
    assert found.get_vocab() == original.get_vocab()
    for text in (*TEXTS, "<|im_start|>user\nDON'T<|im_end|>\n<tool_call>"):
        assert found.encode(text).ids == original.encode(text).ids
