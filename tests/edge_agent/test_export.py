"""Exports: what comes out is what torch computes, loads by itself, and is refused when it is not."""

import json
import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import onnx
import pytest
import torch
from tokenizers import Tokenizer

import edge_agent.export as exporter
from edge_agent.__main__ import main
from edge_agent.draft_model.draft_model import DraftModel
from edge_agent.draft_model.files import read_info
from edge_agent.errors import ModelError
from edge_agent.export import Agreement, ExportReport, Precision, export, graphs
from edge_agent.export.agreement import compare, judge, reference
from edge_agent.export.original import Original
from edge_agent.text.tokenizer import Text
from tests.support.small_models import VOCAB_SIZE, FolderOf, make_tokenizer


def make(folder: Path, out: Path, precision: Precision) -> ExportReport:
    return export(str(folder), out, precision, num_threads=1)


def test_fp32_is_exact_and_the_folder_is_complete(family_folder: FolderOf, tmp_path: Path) -> None:
    out = tmp_path / "new" / "draft"
    report = make(family_folder("llama"), out, "fp32")
    assert report.agreement.max_difference < 1e-3
    assert report.agreement.same_argmax == 1.0
    assert report.num_bytes == sum((out / name).stat().st_size for name in ("model.onnx", "model.onnx.data"))
    assert report.maker == "onnxruntime-genai"
    assert DraftModel.load(out, num_threads=1).logits([1, 2, 3]).shape == (384,)
    text = Text.load(read_info(out))
    assert text.fingerprint == Text(make_tokenizer()).fingerprint
    assert text.has_chat_template
    assert (out / "generation_config.json").is_file()
    assert sorted(path.name for path in out.parent.iterdir()) == ["draft"]


@pytest.mark.parametrize(("precision", "rejected"), [("int8", 0.1), ("int4", 0.5)])
def test_quantised_graphs_are_smaller_and_near(
    precision: Precision, rejected: float, family_folder: FolderOf, twin_folder: FolderOf, tmp_path: Path
) -> None:
    report = make(family_folder("llama"), tmp_path / "draft", precision)
    assert 0.0 < report.agreement.total_variation < rejected
    assert report.num_bytes < sum(path.stat().st_size for path in twin_folder("llama").glob("model.onnx*"))


def test_embedding_and_head_are_one_matrix_of_8_bits(family_folder: FolderOf, tmp_path: Path) -> None:
    report = make(family_folder("qwen3"), tmp_path / "draft", "int8")
    assert report.maker == graphs.ROUNDED
    graph = onnx.load(tmp_path / "draft" / graphs.GRAPH, load_external_data=False).graph
    assert "GatherBlockQuantized" in {node.op_type for node in graph.node}
    large = [one for one in graph.initializer if math.prod(one.dims) == VOCAB_SIZE * 64]
    assert [one.data_type for one in large] == [onnx.TensorProto.UINT8]


@pytest.mark.slow
@pytest.mark.parametrize(("precision", "rejected"), [("fp16", 0.01), ("int8", 0.1), ("int4", 0.5)])
def test_architectures_the_builder_does_not_know_are_quantised_too(
    precision: Precision, rejected: float, family_folder: FolderOf, tmp_path: Path
) -> None:
    report = make(family_folder("gpt2"), tmp_path / "draft", precision)
    assert report.maker.startswith("transformers; not by onnxruntime-genai")
    assert 0.0 < report.agreement.total_variation < rejected


def test_the_report_is_for_people() -> None:
    agreement = Agreement(96, 0.0312, 20.5, 0.9896, 0.0213, 0.0123)
    report = ExportReport(Path("out"), "int8", "somebody", 12_300_000, agreement)
    assert str(report) == (
        "out: int8, 12.3 MB, 12.3 ms per token here, graph by somebody\n"
        "Against the original, over 96 tokens of text: total variation 0.021, same first choice 99.0%, "
        "expected acceptance 97.9%"
    )
    bad = replace(report, agreement=replace(agreement, total_variation=0.3))
    assert str(bad).splitlines()[2] == exporter.BAD


def test_a_graph_of_other_weights_is_noticed(family_folder: FolderOf, draft_folder: FolderOf) -> None:
    expected = reference(Original.load(family_folder("llama")))
    agreement = compare(expected, draft_folder("llama"), num_threads=1)
    with pytest.raises(ModelError, match="does not do what the model does in torch"):
        judge(agreement, "fp32")


@pytest.mark.parametrize(
    ("precision", "difference", "variation"),
    [("fp32", 0.1, 0.0), ("int8", 1.0, 0.4), ("int4", 1.0, 0.7), ("int8", float("nan"), float("nan"))],
)
def test_more_error_than_the_precision_explains_is_refused(
    precision: Precision, difference: float, variation: float
) -> None:
    with pytest.raises(ModelError, match="does not do what the model does"):
        judge(Agreement(96, difference, 20.0, 0.5, variation), precision)


def test_a_refused_export_leaves_nothing_behind(
    family_folder: FolderOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def compare(*_: object, **__: object) -> Agreement:
        return Agreement(96, 9.0, 9.0, 0.0, 1.0)

    monkeypatch.setattr("edge_agent.export.agreement.compare", compare)
    monkeypatch.delitem(graphs.MAKERS, "transformers")  # it takes long, and would be refused as well
    with pytest.raises(ModelError, match="nothing was written"):
        make(family_folder("llama"), tmp_path / "draft", "fp32")
    assert list(tmp_path.iterdir()) == []


def test_when_one_maker_fails_the_next_has_its_turn(
    family_folder: FolderOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(source: Path, out: Path, *_: object) -> None:  # noqa: ARG001
        (out / "model.onnx").write_text("half a graph")
        raise RuntimeError("out of\nluck")

    monkeypatch.setattr(graphs, "MAKERS", {"nobody": fail, "somebody": graphs.build_with_genai})
    report = make(family_folder("llama"), tmp_path / "draft", "fp32")
    assert report.maker == "somebody; not by nobody: out of luck"


def test_a_folder_that_is_not_empty_is_left_alone(family_folder: FolderOf, tmp_path: Path) -> None:
    (tmp_path / "precious").touch()
    with pytest.raises(ModelError, match="already exists"):
        make(family_folder("llama"), tmp_path, "fp32")
    assert [path.name for path in tmp_path.iterdir()] == ["precious"]


def test_a_source_that_is_no_model_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no model folder"):
        make(tmp_path / "nowhere", tmp_path / "out", "fp32")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match=r"no config\.json"):
        make(tmp_path / "empty", tmp_path / "out", "fp32")
    (tmp_path / "empty" / "config.json").write_text(
        json.dumps({"model_type": "llama", "architectures": ["X"]})
    )
    with pytest.raises(ModelError, match="transformers cannot load the model") as caught:
        make(tmp_path / "empty", tmp_path / "out", "fp32")
    assert "\n" not in str(caught.value)


def test_a_missing_package_is_named_with_the_extra_that_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporter, "_NEEDED", ("torch", "no_such_package"))
    with pytest.raises(ModelError, match=r"needs no_such_package: pip install 'hybrid-lm\[export\]'"):
        make(tmp_path, tmp_path / "out", "fp32")


def test_a_tokenizer_of_another_format_is_converted(family_folder: FolderOf, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for path in family_folder("llama").iterdir():
        (source / path.name).write_bytes(path.read_bytes())
    tokenizer = Tokenizer.from_file(str(source / "tokenizer.json"))
    tokenizer.model.save(str(source))
    (source / "tokenizer.json").unlink()
    (source / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "GPT2Tokenizer", "bos_token": "<s>"})
    )
    make(source, tmp_path / "out", "fp32")
    assert Text.load(read_info(tmp_path / "out")).decode(tokenizer.encode("the window").ids) == "the window"


def test_exporting_leaves_randomness_and_logging_as_they_were(
    family_folder: FolderOf, tmp_path: Path
) -> None:
    root = logging.getLogger()
    before = (list(root.handlers), root.level, root.manager.disable, torch.get_rng_state().tolist())
    make(family_folder("llama"), tmp_path / "draft", "int4")
    assert (list(root.handlers), root.level, root.manager.disable, torch.get_rng_state().tolist()) == before


@pytest.mark.parametrize("flag", ["--providers", "--provider"])
def test_providers_have_the_flag_of_the_other_commands_and_keep_the_old_one(
    flag: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def asked_for(*_: object, providers: list[str], **__: object) -> list[str]:
        return providers

    monkeypatch.setattr(exporter, "export", asked_for)
    assert main(["export", "source", "out", flag, "First", flag, "Second"]) == 0
    assert capsys.readouterr().out == "['First', 'Second']\n"


def test_the_users_prompts_are_read_and_progress_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def asked_for(
        *_: object, prompts: Sequence[str], progress: Callable[[str], None], **__: object
    ) -> Sequence[str]:
        progress("Working ...")
        return prompts

    monkeypatch.setattr(exporter, "export", asked_for)
    (tmp_path / "prompts.txt").write_text("one\n\ntwo\n")
    assert main(["export", "source", "out", "--prompts", str(tmp_path / "prompts.txt")]) == 0
    assert capsys.readouterr() == ("['one', 'two']\n", "Working ...\n")
    (tmp_path / "prompts.txt").write_text("\n")
    assert main(["export", "source", "out", "--prompts", str(tmp_path / "prompts.txt")]) != 0
    assert "has no prompt: give one per line" in capsys.readouterr().err
