"""`evaluation quality`: statistics with known answers, settings, texts, the command on the demo pair."""

import csv
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from edge_agent.assembly import build_policy, choose_sampling
from edge_agent.draft_model.files import DEMO_FOLDER
from edge_agent.policy.schemes import SCHEMES, Gate
from edge_agent.tuning.calibration import Calibration
from evaluation.__main__ import main
from evaluation.models.pair import load_pair
from evaluation.models.undelayed import write
from evaluation.quality.agreement import agreement, edit_distance
from evaluation.quality.answering import MAX_TOKENS, Desk, replies
from evaluation.quality.equal_drift import at, compare
from evaluation.quality.reply import PARTS, Reply
from evaluation.quality.scores import score, scores, wilson
from evaluation.quality.setting import CURVE, GREEDY, SAMPLED, VOTE, Setting
from evaluation.quality.variants import agent_config, matched, settings
from evaluation.reporting.significance import NUM_FLIPS, holm, paired_p_value
from evaluation.smart_home.held_out import held_out
from tests.support.small_models import FolderOf

CALIBRATION = Calibration.from_json((DEMO_FOLDER / "calibration.json").read_text())
LLM = Setting(SAMPLED, "llm", "default", 1.0)


def reply(command: int, *, is_right: bool, edits: int = 0, skipped: int = 0, drift: float = 0.0) -> Reply:
    return Reply(command, 1, int(is_right), edits, 4, skipped, round(PARTS * drift), 0, 0)


def gated(threshold: float, scheme: str = "opportunistic") -> Setting:
    return Setting(SAMPLED, scheme, CURVE, threshold)


# -- statistics -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "second", "edits"),
    [
        ((1, 2, 3), (1, 2, 3), 0),
        ((1, 2, 3, 4), (1, 9, 3, 4), 1),
        ((1, 2, 3, 4), (2, 3, 4), 1),
        ((1, 2), (3, 4), 2),
        ((), (1,), 1),
        ((), (), 0),
    ],
)
def test_agreement_counts_the_tokens_that_need_no_edit(
    first: tuple[int, ...], second: tuple[int, ...], edits: int
) -> None:
    assert edit_distance(first, second) == edit_distance(second, first) == edits
    assert agreement(edits, len(first), len(second)) == 1 - edits / max(1, len(first), len(second))


@pytest.mark.parametrize(("right", "num"), [(0, 20), (7, 20), (200, 200)])
def test_a_share_has_wilsons_interval(right: int, num: int) -> None:
    expected = binomtest(right, num).proportion_ci(method="wilson")
    found = wilson(right / num, num)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-6)


def test_holm_multiplies_by_the_claims_that_are_left() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_holm_is_between_no_correction_and_bonferronis_and_keeps_the_order(p_values: list[float]) -> None:
    adjusted = holm(p_values)
    for one, other in zip(p_values, adjusted, strict=True):
        assert one <= other <= min(1.0, len(p_values) * one)
    ordered = sorted(zip(p_values, adjusted, strict=True))
    assert [each for _, each in ordered] == sorted(adjusted)


def test_a_paired_test_agrees_with_the_sign_test_where_all_differences_are_equal_in_size() -> None:
    differences = np.array([1.0] * 9 + [-1.0] * 2 + [0.0] * 50)
    assert paired_p_value(differences) == pytest.approx(binomtest(9, 11).pvalue, abs=0.01)
    assert paired_p_value(np.zeros(10)) == 1.0
    assert paired_p_value(np.ones(100)) == 1 / (NUM_FLIPS + 1)
    assert paired_p_value(-differences) == paired_p_value(differences)


def test_a_score_compares_each_reply_with_the_targets_to_the_same_command() -> None:
    target = [reply(i, is_right=i < 8) for i in range(10)]
    ours = [reply(i, is_right=i < 6, edits=1 - i % 2, skipped=1, drift=0.4) for i in range(10)]
    found = score(gated(0.1), ours, target)
    assert found.accuracy.value == 0.6
    assert found.difference.value == pytest.approx(-0.2)
    assert found.difference.low < -0.2 < found.difference.high
    assert found.p_value == pytest.approx(0.5, abs=0.02)  # both of two differences have one sign
    assert found.relative.value == pytest.approx(0.75)
    assert found.same_text.value == 0.5
    assert found.same_tokens.value == pytest.approx(0.875)
    assert found.sent == 0.75
    assert found.drift == pytest.approx(0.1)


def test_the_target_differs_from_itself_by_nothing() -> None:
    target = [reply(i, is_right=i < 8) for i in range(10)]
    found = score(LLM, target, target)
    assert (found.difference.low, found.difference.high) == (0.0, 0.0)
    assert found.relative.value == found.same_tokens.value == found.same_text.value == 1.0


def test_replies_to_other_commands_are_not_compared() -> None:
    with pytest.raises(ValueError, match="same commands"):
        score(LLM, [reply(0, is_right=True)], [reply(1, is_right=True)])


def test_only_the_rows_of_the_table_are_claims() -> None:
    target = [reply(i, is_right=True) for i in range(40)]
    worse = [reply(i, is_right=i > 20) for i in range(40)]
    shown = replace(gated(0.1), choice="default")
    found = {each.setting: each for each in scores({LLM: target, shown: worse, gated(0.2): worse})}
    assert found[LLM].adjusted is None
    assert found[gated(0.2)].adjusted is None
    assert found[shown].adjusted == found[shown].p_value < 0.001


def test_a_level_between_two_drifts_is_interpolated_and_one_outside_is_not() -> None:
    drifts, values = np.array([0.04, 0.01, 0.0, 0.9]), np.array([1.0, 3.0, 9.0, 0.0])
    assert at(drifts, values, 0.02) == pytest.approx(2.0)
    assert at(drifts, values, 0.04) == 1.0
    assert np.isnan(at(drifts, values, 0.95))
    assert np.isnan(at(drifts, values, 0.005))
    assert np.isnan(at(drifts, values, 0.2))  # too far from both of its neighbours
    assert np.isnan(at(drifts[:1], values[:1], 0.04))


def test_schemes_are_compared_where_their_drift_is_equal() -> None:
    """u-hlm with twice the threshold has the drift of the other, so at equal drift they are equal."""
    rows = {
        drift: [reply(i, is_right=i % 10 > share, skipped=share, drift=4 * drift) for i in range(30)]
        for share, drift in ((1, 0.001), (2, 0.004), (3, 0.016))
    }
    ours = {gated(t): rows[drift] for t, drift in ((0.1, 0.001), (0.2, 0.004), (0.4, 0.016))}
    other = {gated(2 * each.threshold, "u-hlm"): found for each, found in ours.items()}
    target = {LLM: [reply(i, is_right=True) for i in range(30)]}
    replies_of = target | ours | other
    found = compare(replies_of, scores(replies_of), (0.002, 0.5))
    assert {(each.family, each.level) for each in found} == {("opportunistic", 0.002), ("u-hlm", 0.002)}
    by_family = {each.family: each for each in found}
    difference = by_family["u-hlm"].right_difference
    assert difference is not None
    assert (difference.low, difference.value, difference.high) == (0.0, 0.0, 0.0)
    assert by_family["opportunistic"].right_difference is None
    assert by_family["u-hlm"].sent == pytest.approx(0.625)


# -- settings -------------------------------------------------------------------------------------------


def test_every_scheme_is_judged_as_published_and_with_the_calibrations_numbers() -> None:
    calibration = replace(CALIBRATION, sent_ks=((0.01, 2), (0.05, 3)))
    found = settings(calibration, (0.01,), SAMPLED)
    assert {each.scheme for each in found} == {*SCHEMES} - {"rand-hlm"}
    assert len({each.key for each in found}) == len(found)
    published = [each for each in found if each.choice.endswith("published")]
    assert {each.estimator for each in published} == {VOTE}
    assert [(each.scheme, each.threshold) for each in published] == [
        ("u-hlm", 0.073),
        ("u-hlm", 0.43),
        ("cu-hlm-offline", 0.081),
        ("cu-hlm-offline", 0.81),
        ("cu-hlm-online", 0.081),
        ("cu-hlm-online", 0.81),
    ]
    assert {each.max_ids for each in published if each.scheme == "cu-hlm-offline"} == {30}
    averse = [each for each in found if each.choice == "risk-averse, calibrated"]
    assert averse[0].threshold == pytest.approx(calibration.fit.risk_averse, rel=1e-2)
    assert {each.threshold for each in averse} == {averse[0].threshold}
    assert averse[0].fit.slope == pytest.approx(calibration.fit.slope, rel=1e-3)
    policy = build_policy(agent_config(averse[0], 9), calibration.sampling, 1)
    assert policy.threshold == averse[0].threshold
    assert [each.max_ids for each in averse if each.scheme == "cu-hlm-offline"] == [calibration.offline_k, 2]
    budget = next(each for each in found if each.choice == "risk budget 0.01")
    assert budget.threshold == calibration.threshold_for(0.01)


def test_greedy_rows_have_no_curve_and_no_calibration_means_published_numbers() -> None:
    assert all(each.choice != CURVE for each in settings(CALIBRATION, (0.01,), GREEDY))
    plain = settings(None, (0.01,), SAMPLED)
    assert all("calibrated" not in each.choice for each in plain)
    assert {each.scheme for each in plain} == {*SCHEMES} - {"rand-hlm"}


def test_rand_hlm_sends_as_often_as_what_it_is_compared_with() -> None:
    found = matched([("risk-averse, published", 0.0712)], GREEDY)
    assert [(each.uplink_probability, each.choice) for each in found] == [
        (0.0712, "uplink rate of u-hlm, risk-averse, published")
    ]


# -- texts ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sampling", [SAMPLED, GREEDY])
def test_texts_and_skips_are_those_of_agent_and_worker(sampling: str) -> None:
    chosen = settings(CALIBRATION, (0.01,), sampling) + matched([("x", 0.2)], sampling)
    command = held_out(1)[0]
    with load_pair() as pair:
        prompt = pair.prompt(command.command)
        found = replies(pair, chosen, 0, command, 1, 7)
        shown = random.Random(1).sample(list(zip(chosen, found, strict=True)), 10)
        desk = Desk(pair, tuple(prompt), 7, choose_sampling(agent_config(chosen[0], 9), pair.info.sampling))
        for setting, one in shown:
            calibration = replace(CALIBRATION, fit=setting.fit)
            written = write(pair, agent_config(setting, MAX_TOKENS), prompt, 7, calibration=calibration)
            assert one.tokens == len(written.tokens)
            assert one.skipped == written.tally.num_skipped
            assert one.is_right == command.is_right(written.text)
            scheme = SCHEMES[setting.scheme]
            if scheme.gate is not Gate.ALWAYS and scheme.drafts and not scheme.holds:
                assert desk.text(setting).tokens == written.tokens


def test_the_drift_is_what_audits_would_measure() -> None:
    """The agent's own measured risk is the same sum, up to the byte that carries each probability."""
    setting = Setting(SAMPLED, "opportunistic", "default", 0.9)
    command = held_out(3)[2]
    with load_pair() as pair:
        prompt = pair.prompt(command.command)
        sampling = choose_sampling(agent_config(setting, 9), pair.info.sampling)
        for seed in range(8):
            text = Desk(pair, tuple(prompt), seed, sampling).text(setting)
            tally = write(pair, agent_config(setting, MAX_TOKENS), prompt, seed).tally
            assert tally.measured_risk_sum <= text.drift + 0.03 * tally.num_measured + 1e-9


# -- the command ----------------------------------------------------------------------------------------


def test_greedy_schemes_that_lose_nothing_write_the_targets_text() -> None:
    with load_pair() as pair:
        prompts = [pair.prompt(each.command) for each in held_out(6)]
        texts = {}
        for setting in settings(None, (), GREEDY):
            if setting.scheme in ("llm", "hlm", "lossless", "coupled"):
                config = agent_config(setting, 256)
                texts[setting.scheme] = [write(pair, config, prompt, 1).tokens for prompt in prompts]
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
    page = (tmp_path / "page" / "quality.md").read_text()
    again = ["quality", "--replies", str(tmp_path / "page"), "--page", str(tmp_path / "again")]
    assert main(again) == 0
    assert (tmp_path / "again" / "quality.md").read_text() == page
    assert main(flags) == 0
    assert work.read_text() == written
    assert (tmp_path / "page" / "quality.csv").read_text() == rows
    found = {(row["sampling"], row["scheme"]): row for row in csv.DictReader(rows.splitlines())}
    assert set(found) == {(s, n) for s in ("sampled", "greedy") for n in ("slm", "llm", "coupled")}
    assert found["sampled", "coupled"]["same_text_value"] == "1.0"
    assert float(found["sampled", "slm"]["sent"]) == 0.0
    assert (tmp_path / "page" / "quality.svg").exists()


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--num", "0"], "--num must be at least 1"),
        (["--seeds", "0"], "--seeds must be at least 1"),
        (["--replies", "/no/such/folder"], "cannot read quality-replies.csv"),
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
