"""`--precision auto`: the least time per token wins, and only the winner stays."""

from pathlib import Path

import pytest

from edge_agent.__main__ import main
from edge_agent.errors import ModelError
from edge_agent.export import Agreement, ExportReport, Precision, auto


def report(precision: Precision, step_seconds: float, total_variation: float) -> ExportReport:
    return ExportReport(
        Path(precision), precision, "somebody", 1, Agreement(9, 0.1, 20.0, 0.9, total_variation, step_seconds)
    )


def test_a_slower_graph_wins_if_its_tokens_are_rejected_less() -> None:
    int8, int4 = report("int8", 0.010, 0.02), report("int4", 0.006, 0.10)
    assert auto.choose([int8, int4]) is int8
    assert auto.choose([report("int8", 0.040, 0.02), int4]) is int4


def test_only_the_best_stays_under_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def export(source: str, out: Path, precision: Precision, **_: object) -> ExportReport:
        out.mkdir()
        (out / "model.onnx").write_text(f"{source} in {precision}")
        made = report(precision, 0.01 if precision == "int8" else 0.001, 0.01)
        return ExportReport(out, precision, "somebody", 1, made.agreement)

    monkeypatch.setattr(auto, "export", export)
    assert main(["export", "source", str(tmp_path / "new" / "out"), "--precision", "auto"]) == 0
    assert (tmp_path / "new" / "out" / "model.onnx").read_text() == "source in int4"
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["out"]
    output = capsys.readouterr()
    assert output.out.startswith(f"{tmp_path / 'new' / 'out'}: int4")
    assert "int8: 10.0 ms per token, 12.5 ms with its rejections" in output.err


def test_a_folder_that_is_not_empty_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    (tmp_path / "precious").touch()
    with pytest.raises(ModelError, match="already exists"):
        auto.export_best("source", tmp_path)
