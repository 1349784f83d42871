"""`evaluation quality`: scores with known answers, calibrated thresholds, the command on the demo pair."""

import csv
from pathlib import Path

import pytest
from scipy.stats import binomtest

from edge_agent.assembly import build_policy
from edge_agent.draft_model.files import DEMO_FOLDER
from edge_agent.policy.schemes import SCHEMES
from edge_agent.tuning.calibration import Calibration
from evaluation.__main__ import main
from evaluation.models.pair import load_pair
from evaluation.models.undelayed import write
from evaluation.quality.agreement import agreement
from evaluation.quality.scores import Answer, score, wilson
from evaluation.quality.variants import variants
from evaluation.smart_home.held_out import held_out
from tests.support.small_models import FolderOf


def answer(prompt: int, tokens: tuple[int, ...], *, is_right: bool, num_skipped: int = 0) -> Answer:
    return Answer(prompt, 1, tokens, is_right, num_skipped, 0, 0.0)


# -- scores ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ((1, 2, 3), (1, 2, 3), 1.0),
        ((1, 2, 3, 4), (1, 9, 3, 4), 0.75),
        ((1, 2, 3, 4), (2, 3, 4), 0.75),
        ((1, 2), (3, 4), 0.0),
        ((), (1,), 0.0),
        ((), (), 1.0),
    ],
)
def test_agreement_counts_the_tokens_that_need_no_edit(
    first: tuple[int, ...], second: tuple[int, ...], same: float
) -> None:
    assert agreement(first, second) == same
    assert agreement(second, first) == same


@pytest.mark.parametrize(("right", "num"), [(0, 20), (7, 20), (200, 200)])
def test_a_share_has_wilsons_interval(right: int, num: int) -> None:
    expected = binomtest(right, num).proportion_ci(method="wilson")
    found = wilson(right / num, num)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-6)


def test_a_score_compares_each_answer_with_the_targets_to_the_same_command() -> None:
    target = [answer(i, (1, 2, 3, 4), is_right=i < 8) for i in range(10)]
    ours = [
        answer(i, (1, 2, 3, 4) if i % 2 else (1, 2, 3, 5), is_right=i < 6, num_skipped=1) for i in range(10)
    ]
    found = score(ours, target)
    assert found.accuracy.value == 0.6
    assert found.difference.value == pytest.approx(-0.2)
    assert found.difference.low < -0.2 < found.difference.high
    assert found.relative.value == pytest.approx(0.75)
    assert found.same_text.value == 0.5
    assert found.same_tokens.value == pytest.approx(0.875)
    assert found.skipped == 0.25
    assert found.measured_risk is None


def test_the_target_differs_from_itself_by_nothing() -> None:
    target = [answer(i, (i, 2), is_right=i < 8) for i in range(10)]
    found = score(target, target)
    assert (found.difference.low, found.difference.high) == (0.0, 0.0)
    assert found.relative.value == found.same_tokens.value == found.same_text.value == 1.0


def test_answers_to_other_commands_are_not_compared() -> None:
    with pytest.raises(ValueError, match="same prompts"):
        score([answer(0, (1,), is_right=True)], [answer(1, (1,), is_right=True)])


def test_every_scheme_is_judged_at_its_default_and_at_the_calibrations_thresholds() -> None:
    calibration = Calibration.from_json((DEMO_FOLDER / "calibration.json").read_text())
    found = variants(calibration, (0.01,))
    assert {each.scheme for each in found} == set(SCHEMES)
    assert [each.threshold for each in found if each.choice == "default"] == [
        scheme.threshold for scheme in SCHEMES.values()
    ]
    by_choice = {(each.scheme, each.choice): each for each in found}
    averse = by_choice["u-hlm", "risk-averse, calibrated"]
    assert averse.threshold == calibration.fit.risk_averse
    assert build_policy(averse.config(1.0, 9), calibration.sampling, 1).threshold == averse.threshold
    budget = by_choice["opportunistic", "risk budget 0.01"]
    assert budget.threshold == calibration.threshold_for(0.01)
    assert by_choice["cu-hlm-offline", "risk-averse, calibrated"].max_ids == calibration.offline_k
    assert [each.scheme for each in variants(None, (0.01,))] == list(SCHEMES)


# -- the command ----------------------------------------------------------------------------------------


def test_greedy_schemes_that_lose_nothing_write_the_targets_text() -> None:
    with load_pair() as pair:
        prompts = [pair.prompt(each.command) for each in held_out(6)]
        texts = {}
        for variant in variants(None, ()):
            if variant.scheme in ("llm", "hlm", "lossless", "coupled"):
                config = variant.config(0.0, 256)
                texts[variant.scheme] = [write(pair, config, prompt, 1).tokens for prompt in prompts]
    assert all(each == texts["llm"] for each in texts.values())


def test_the_command_scores_and_goes_on_where_it_was(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["quality", "--num", "2", "--seeds", "1", "--scheme", "coupled", "--scheme", "slm"]
    flags += ["--page", str(tmp_path / "page"), "--work", str(tmp_path / "work")]
    flags += ["--cache", str(tmp_path / "logits")]
    assert main(flags) == 0
    assert "coupled" in capsys.readouterr().out
    (work,) = (tmp_path / "work").glob("*.jsonl")
    written, rows = work.read_text(), (tmp_path / "page" / "quality.csv").read_text()
    assert main(flags) == 0
    assert work.read_text() == written
    assert (tmp_path / "page" / "quality.csv").read_text() == rows
    found = {(row["sampling"], row["scheme"]): row for row in csv.DictReader(rows.splitlines())}
    assert set(found) == {(s, n) for s in ("Sampled", "Greedy") for n in ("slm", "llm", "coupled")}
    assert found["Sampled", "coupled"]["same_text_value"] == "1.0"
    assert float(found["Sampled", "slm"]["skipped"]) == 1.0
    assert (tmp_path / "page" / "quality.svg").exists()


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--num", "0"], "--num must be at least 1"),
        (["--seeds", "0"], "--seeds must be at least 1"),
        (["--draft", "/no/such/folder"], "no model folder"),
    ],
)
def test_mistakes_end_in_a_sentence(
    flags: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["quality", "--page", str(tmp_path), "--work", str(tmp_path), *flags]) == 2
    assert said in capsys.readouterr().err


def test_a_broken_calibration_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broken = tmp_path / "calibration.json"
    broken.write_text("{}")
    flags = ["--page", str(tmp_path), "--work", str(tmp_path), "--calibration", str(broken)]
    assert main(["quality", *flags]) == 2
    assert str(broken) in capsys.readouterr().err


def test_a_pair_that_shares_no_vocabulary_is_refused(
    draft_folder: FolderOf, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--page", str(tmp_path), "--work", str(tmp_path), "--draft", str(draft_folder("llama"))]
    assert main(["quality", *flags]) == 2
    assert "different vocabularies" in capsys.readouterr().err
