"""`evaluation real-models` on the demo pair: what it reads, how it scores, and that its checks can fail."""

import json
from pathlib import Path

import numpy as np
import pytest

from cloud_worker.target_model.loading import DEMO_FOLDER
from common.process.settings import SettingsError
from evaluation.__main__ import main
from evaluation.real_models import stages
from evaluation.real_models.exactness import p_value
from evaluation.real_models.problems import ARITHMETIC, CODE, Problem, interleaved, read_code, read_questions
from evaluation.real_models.scoring import body, is_right, last_number, passes
from evaluation.real_models.stages import Models
from evaluation.reporting.finished import Finished

HEAD = 'def double(n):\n    """Return twice n."""\n'
TEST = "def check(candidate):\n    assert candidate(2) == 4\n\ncheck(double)\n"


def written(path: Path, lines: list[object]) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def questions_file(path: Path) -> Path:
    arithmetic = {"category": "math_reasoning", "turns": ["1 + 1?"], "reference": ["so it is 2\n#### 2"]}
    others = [
        {"category": kind, "turns": [f"{kind}?", "more"]} for kind in ("coding", "qa", "writing", "rag")
    ]
    lines = [{"question_id": number, **line} for number, line in enumerate([arithmetic, *others])]
    return written(path, [*lines])


def test_questions_are_sorted_by_kind(tmp_path: Path) -> None:
    found = read_questions(questions_file(tmp_path / "question.jsonl"))
    assert [(one.kind, one.check) for one in found.arithmetic] == [(ARITHMETIC, "2")]
    assert (found.coding, found.chat) == (["coding?"], ["writing?", "qa?"])
    assert interleaved([["a", "b"], ["c"]]) == ["a", "c", "b"]


@pytest.mark.parametrize("line", ["no json", '["a list"]', '{"task_id": "1"}'])
def test_a_file_of_another_kind_is_refused_with_its_line(line: str, tmp_path: Path) -> None:
    path = tmp_path / "code.jsonl"
    path.write_text(line + "\n")
    with pytest.raises(SettingsError, match=r"code\.jsonl"):
        read_code(path)


@pytest.mark.parametrize(
    ("answer", "right"),
    [
        ("    return 2 * n\n", True),
        ("    return 2 * n\n\nprint(double(1) / 0)\n", True),  # behind the function's end
        ("    return n\n", False),
        ("    return 2 *\n", False),
        ("    raise SystemExit(3)\n", False),
        ("    return bytearray(4 << 30)\n", False),  # more memory than there is
    ],
)
def test_a_program_is_right_if_its_test_passes(answer: str, right: bool) -> None:
    assert is_right(Problem("x", CODE, HEAD, TEST), answer) is right


def test_a_program_cannot_run_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evaluation.real_models.scoring.SECONDS", 1)
    assert not passes("while True: pass")


def test_a_body_ends_where_something_else_begins() -> None:
    assert body("    return 1\n\ndef other():\n") == "    return 1\n"
    assert body("    return 1\n") == "    return 1\n"


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("3 apples and 4 make 7\n#### 1,234", 1234.0),
        ("it costs $1,250.50.", 1250.5),
        ("#### -3 dollars", -3.0),
        ("none", None),
    ],
)
def test_the_number_behind_the_marks_counts_or_else_the_last_one(text: str, number: float | None) -> None:
    assert last_number(text) == number


def test_the_chi_square_test_tells_a_wrong_distribution() -> None:
    probs = np.array([0.5, 0.3, 0.2, 0.0])
    assert p_value(np.array([1002.0, 594.0, 404.0, 0.0]), probs) > 0.05
    assert p_value(np.array([900.0, 650.0, 450.0, 0.0]), probs) < 1e-3
    assert p_value(np.array([1001.0, 594.0, 404.0, 1.0]), probs) == 0.0
    many = np.full(10_000, 1e-4)  # every count is rare: one bin
    assert p_value(np.full(10_000, 0.2), many) == 1.0


def test_the_demo_pair_writes_the_targets_greedy_texts(tmp_path: Path) -> None:
    models = Models("demo", str(DEMO_FOLDER), "float32", 1)
    prompts, finished = ["turn on the kitchen light", "is it warm?"], Finished(tmp_path, "demo")
    found = stages.greedy(models, prompts, finished)
    assert {scheme: of[:2] for scheme, of in found.items()} == {"lossless": (2, 2), "coupled": (2, 2)}
    fits = stages.sampled(models, prompts[:1], finished)
    assert len(fits) == 4
    assert all(fit.p_value > 1e-4 for fit in fits)


@pytest.mark.slow
def test_the_command_writes_a_section_for_each_stage(tmp_path: Path) -> None:
    questions = [
        {"question_id": number, "category": category, "turns": ["turn on the light"], "reference": ["#### 2"]}
        for number, category in enumerate(["math_reasoning", "coding", "qa", "writing", "stem"])
    ]
    code = {"task_id": "double", "prompt": HEAD, "test": TEST, "entry_point": "double"}
    command = [
        "real-models", "--draft", "demo", "--target", "demo", "--dtype", "float32", "--name", "demo",
        "--questions", str(written(tmp_path / "question.jsonl", [*questions])),
        "--code", str(written(tmp_path / "code.jsonl", [code])), "--num", "1",
        "--stages", "speed", "calibration", "tasks", "--work", str(tmp_path), "--out", str(tmp_path),
    ]  # fmt: skip
    assert main(command) == 0
    page = (tmp_path / "real-models.md").read_text()
    for scheme in ("slm", "llm", "lossless", "opportunistic, risk 0.01"):
        assert f"| HumanEval | {scheme} |" in page
    assert "| greedy | code | lossless |" in page
    assert "AUROC" in page


def test_a_missing_file_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pair = ["--draft", "demo", "--target", "demo"]
    assert main(["real-models", *pair, "--questions", str(tmp_path / "none.jsonl")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "none.jsonl" in line
