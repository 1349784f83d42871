"""`evaluation calibrate`: statistics against known answers, the command on real models, and its errors."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from cloud_worker.session.verification import target_choice
from common.sampling.distribution import Sampling, softmax, top_ids, warp
from edge_agent.assembly import build_policy, choose_sampling
from edge_agent.config import AgentConfig
from edge_agent.draft_model.files import DEMO_FOLDER
from edge_agent.errors import CalibrationError
from edge_agent.policy.head import Head
from edge_agent.policy.policy import Decision, Policy
from edge_agent.policy.rejection_fit import Fit
from edge_agent.policy.schemes import SCHEMES
from edge_agent.policy.uncertainty import DEFAULT_ESTIMATOR
from edge_agent.tuning.calibration import Calibration
from evaluation.__main__ import main
from evaluation.calibrate.analysis import analyse, best_estimator
from evaluation.calibrate.association import Groups, associate, correlation
from evaluation.calibrate.model_times import model_times
from evaluation.calibrate.rejection_line import fit_line, isotonic_curve
from evaluation.calibrate.samples import (
    COSTED_KS,
    COSTS,
    HYBRID,
    SENT_LEVELS,
    TARGET,
    Samples,
    Seen,
    Times,
    Walk,
)
from evaluation.calibrate.tradeoff import cost, offline_k, operating_points, papers_bound, sent_ks, thresholds
from evaluation.calibrate.walking import Notes, walk_prompt
from evaluation.local.broker import LocalBroker
from evaluation.local.worker import LocalWorker
from evaluation.models.pair import Pair, load_pair
from evaluation.models.truncation_costs import bias, rebuilt, truncation_costs
from evaluation.models.undelayed import write
from evaluation.reporting.finished import Finished
from evaluation.smart_home.fresh import fresh_commands
from evaluation.smart_home.held_out import held_out
from tests.support.narrowing import present
from tests.support.processes import answers, generate
from tests.support.small_models import FolderOf

SLOPE, INTERCEPT = 0.8, 0.1
TIMEOUT = 120.0
PROMPTS = ("the kitchen window", "turn off the lights", "what is the temperature")


def walk_of(seen: tuple[Seen, ...], ks: tuple[int, ...], sums: tuple[float, ...]) -> Walk:
    """A walk whose truncation costs twice as much for the tokens above each level, which are half of them."""
    num = len(seen)
    return Walk(
        seen,
        ks,
        sums,
        sums,
        sent_bounds=(sums,) * len(SENT_LEVELS),
        costs=((0.5 * num,) * len(COSTED_KS),) * len(COSTS),
        num_above=(num // 2,) * len(SENT_LEVELS),
        num_sent=num // 2,
    )


def made_up(num_prompts: int = 60, tokens_each: int = 40, seed: int = 0) -> list[Walk]:
    """Walks whose rejection probability is a line in "right" plus noise, and knows nothing of "wrong"."""
    rng = np.random.default_rng(seed)
    walks = []
    for _ in range(num_prompts):
        right, wrong, noise = rng.random(tokens_each), rng.random(tokens_each), rng.normal(size=tokens_each)
        rejections = np.clip(SLOPE * right + INTERCEPT + 0.05 * noise, 0, 1)
        seen = [
            Seen({"right": r, "wrong": w}, float(beta), float(beta), float(beta), True, rng.random() > beta)
            for r, w, beta in zip(right.tolist(), wrong.tolist(), rejections, strict=True)
        ]
        sums = tuple(tokens_each * mean for mean in (0.3, 0.08, 0.01))
        walks.append(walk_of(tuple(seen), (1, 2, 3), sums))
    return walks


# -- statistics with known answers ----------------------------------------------------------------------


def test_the_line_is_found_again_and_its_intervals_hold_the_truth() -> None:
    line = fit_line(Samples.of(made_up()), "right")
    assert line.slope.low < SLOPE < line.slope.high
    assert line.intercept.low < INTERCEPT < line.intercept.high
    assert line.slope.high - line.slope.low < 0.05
    assert line.risk_averse.value == pytest.approx(-INTERCEPT / SLOPE, abs=0.02)


def test_intervals_hold_the_truth_about_as_often_as_they_say() -> None:
    hits = 0
    for seed in range(40):
        slope = fit_line(Samples.of(made_up(30, 10, seed)), "right").slope
        hits += slope.low < SLOPE < slope.high
    assert hits >= 33  # 95 % of 40 are 38; fewer than 33 has probability 0.0005


def test_tokens_of_one_prompt_that_move_together_widen_the_interval() -> None:
    """Each token three times over tells nothing new, and the interval knows it."""
    once = made_up(40, 10)
    thrice = [replace(walk, seen=walk.seen * 3) for walk in once]
    first, second = (fit_line(Samples.of(walks), "right").slope for walks in (once, thrice))
    assert second.high - second.low == pytest.approx(first.high - first.low, rel=1e-6)


def test_correlations_are_those_of_scipy_whether_a_row_is_weighed_or_repeated() -> None:
    rng = np.random.default_rng(1)
    first = np.round(rng.random(500), 1)
    second = first + rng.normal(size=500)
    counts = rng.integers(0, 4, 500)
    weights = counts.astype(float)
    pearson = correlation(first, second, weights)
    spearman = correlation(Groups.of(first).midranks(weights), Groups.of(second).midranks(weights), weights)
    first, second = np.repeat(first, counts), np.repeat(second, counts)
    by_scipy: Any = stats.pearsonr(first, second), stats.spearmanr(first, second)  # made while it runs
    assert pearson == pytest.approx(by_scipy[0].statistic)
    assert spearman == pytest.approx(by_scipy[1].statistic)


def test_auroc_is_the_share_of_pairs_in_the_right_order() -> None:
    rng = np.random.default_rng(2)
    uncertainty = np.round(rng.random(60), 1)
    rejected = (rng.random(60) < uncertainty).astype(float)
    pairs = [
        (u > v) + (u == v) / 2
        for u, r in zip(uncertainty, rejected, strict=True)
        for v, s in zip(uncertainty, rejected, strict=True)
        if r == 1.0 and s == 0.0
    ]
    assert Groups.of(uncertainty).auroc(rejected, np.ones(60)) == pytest.approx(np.mean(pairs))


def test_the_estimator_that_knows_is_found_to_be_the_best() -> None:
    found = associate(Samples.of(made_up()))
    for figure in ("pearson", "spearman", "auroc"):
        assert found.best(figure) == "right"
        assert found.difference("right", "wrong", figure).low > 0
        assert found.of("wrong", figure).value < found.of("right", figure).low


def test_an_isotonic_curve_never_falls_and_keeps_the_mean() -> None:
    samples = Samples.of(made_up())
    uncertainty = samples.uncertainty["right"]
    fitted = isotonic_curve(uncertainty, samples.rejection).at(np.sort(uncertainty))
    assert (np.diff(fitted) >= 0).all()
    assert fitted.mean() == pytest.approx(samples.rejection.mean())


def test_an_operating_point_costs_what_the_policys_own_gate_would_skip() -> None:
    samples = Samples.of(made_up(10, 20))
    uncertainty = samples.uncertainty["right"]
    points = operating_points(samples, "right")
    assert [each.threshold for each in points] == thresholds().tolist()
    for point in points[:: len(points) // 7]:
        policy = Policy(
            SCHEMES["opportunistic"],
            Sampling(),
            1,
            point.threshold,
            # logits that say their uncertainty themselves
            estimator=lambda logits, _1, _2, _3: float(
                (logits.logits if isinstance(logits, Head) else logits)[0]
            ),
        )
        skipped = np.array(
            [policy.propose(np.array([u, 0.0]), 0).decision is Decision.SKIP for u in uncertainty]
        )
        assert point.risk == pytest.approx(np.mean(samples.rejection * skipped))
        assert point.uplink_rate == pytest.approx(1 - skipped.mean())
        risk, uplink_rate = cost(samples, "right", point.threshold)
        assert (risk.value, uplink_rate.value) == pytest.approx((point.risk, point.uplink_rate))


def test_the_offline_k_is_the_least_whose_mean_bound_is_tolerated() -> None:
    samples = Samples.of(made_up(4, 5))
    assert [offline_k(samples, theta) for theta in (0.3, 0.1, 0.05, 0.001)] == [1, 2, 3, 4]


def test_k_from_the_tokens_that_are_sent_is_their_own() -> None:
    samples = Samples.of(made_up(4, 6))
    assert dict(sent_ks(samples, 0.3)) == dict.fromkeys(SENT_LEVELS, 2)
    assert offline_k(samples, 0.3) == 1
    assert samples.costs.min() == samples.costs.max() == 1.0


def test_the_papers_bound_is_the_mean_of_the_line_up_to_the_threshold() -> None:
    samples = Samples.of(made_up(4, 50))
    uncertainty = samples.uncertainty["right"]
    expected = np.mean([max(0.0, u - 0.25) if u <= 0.5 else 0.0 for u in uncertainty])
    assert papers_bound(samples, "right", Fit(1.0, -0.25), 0.5) == pytest.approx(expected)
    assert papers_bound(samples, "right", Fit(1.0, -0.25), 0.25) == 0.0


def test_the_bias_of_a_correction_vanishes_with_the_truncation() -> None:
    rng = np.random.default_rng(1)
    x, y = softmax(rng.normal(size=30) * 2), softmax(rng.normal(size=30) * 2)
    token = int(np.argmax(x - y))
    assert bias(x, y, x, token) == 0.0
    assert bias(x, y, rebuilt(x, 1)[0], int(np.argmax(y - x))) == 0.0
    biases = [bias(x, y, rebuilt(x, k)[0], token) for k in (1, 5, 29)]
    assert biases[0] > biases[1] > biases[2] >= 0.0
    assert all(each <= 1.0 - y[token] / x[token] for each in biases)
    truncation, rounding, _ = truncation_costs(x, y, token, 5)
    exact, sent = rebuilt(x, 5)
    assert truncation == pytest.approx(np.abs(x - exact).sum() / 2)
    assert rounding == pytest.approx(np.abs(exact - sent).sum() / 2)
    assert 0.0 < rounding <= 0.0062 * np.sqrt(5)


def test_uncertainty_that_never_varies_is_refused_in_a_sentence() -> None:
    seen = (Seen({"right": 0.5}, 0.1, 0.1, 0.1, True, True),) * 5
    walks = [walk_of(seen, (1,), (0.1,))] * 3
    with pytest.raises(CalibrationError, match="same uncertainty"):
        analyse({HYBRID: walks, TARGET: walks}, "right", (0.01,), 0.1)


# -- prompts that are done ------------------------------------------------------------------------------


def test_a_line_that_a_crash_cut_short_is_dropped_and_the_others_stay(tmp_path: Path) -> None:
    finished = Finished(tmp_path, "one pair")
    finished.add("first", {"a": 0.1})
    finished.add("second", [1])
    finished.path.write_bytes(finished.path.read_bytes()[:-3])
    again = Finished(tmp_path, "one pair")
    assert again.get("second") is None
    again.add("third", [2])
    last = Finished(tmp_path, "one pair")
    assert [last.get(key) for key in ("first", "second", "third")] == [{"a": 0.1}, None, [2]]
    assert Finished(tmp_path, "another pair").get("first") is None


def test_a_walk_survives_being_written_and_read() -> None:
    for walk in made_up(2, 3):
        assert Walk.from_json(json.loads(json.dumps(walk.to_json()))) == walk


def test_fresh_commands_are_none_of_those_that_quality_is_judged_on() -> None:
    assert not set(fresh_commands(300)) & {each.command for each in held_out()}


# -- real models ----------------------------------------------------------------------------------------


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    path = tmp_path / "prompts.txt"
    path.write_text("\n".join(PROMPTS) + "\n\n")
    return path


def arguments(tmp_path: Path, *more: str) -> list[str]:
    return ["calibrate", "--page", str(tmp_path / "page"), "--work", str(tmp_path / "work"), *more]


@pytest.mark.parametrize("family", ["qwen3", pytest.param("gpt2", marks=pytest.mark.slow)])
def test_any_pair_is_calibrated_and_the_agent_can_read_the_file(
    family: str,
    draft_folder: FolderOf,
    family_folder: FolderOf,
    tmp_path: Path,
    prompts: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "calibration.json"
    pair = ["--draft", str(draft_folder(family)), "--target", str(family_folder(family))]
    command = arguments(tmp_path, *pair, "--prompts", str(prompts), "--out", str(out), "--max-tokens", "24")
    command += ["--temperature", "1"]
    assert main(command) == 0
    calibration = Calibration.from_json(out.read_text())
    assert calibration.sampling == Sampling(1.0)
    assert calibration.num_tokens >= 24
    rates = [point.uplink_rate for point in calibration.operating_points]
    risks = [point.risk for point in calibration.operating_points]
    assert rates == sorted(rates, reverse=True)
    assert risks == sorted(risks)
    assert rates[-1] == 0.0
    assert present(calibration.threshold) >= 0.0
    assert 0.0 < present(calibration.acceptance) <= 1.0
    assert present(calibration.draft_seconds) > 0.0
    said = capsys.readouterr()
    assert "best by AUROC" in said.out
    assert "minutes for the other 2" in said.err
    page = (tmp_path / "page" / "calibration.html").read_text()
    assert page.count("<svg") == 5
    assert "src=" not in page  # self-contained
    written = {path.name for path in (tmp_path / "page").iterdir()}
    assert {"calibration.md", "calibration.csv", "calibration-fit.svg"} <= written


def test_a_draft_token_is_judged_by_what_would_be_sent_of_it_and_not_by_the_whole_distribution() -> None:
    rng = np.random.default_rng(1)
    policy = Policy(SCHEMES["opportunistic"], Sampling(), 1, threshold=0.5, max_ids=4)
    notes = Notes(Sampling(), 1, 40)
    for position in range(20):
        logits, y = rng.normal(size=40), softmax(rng.normal(size=40))
        proposal, x = policy.propose(logits, position), softmax(logits)
        notes.note(position, logits, proposal, y)
        token, q = proposal.draft.token, present(proposal.draft.distribution).dense(40)
        seen = notes.seen[-1]
        assert seen.rejection == pytest.approx(max(0.0, 1.0 - y[token] / q[token]))
        assert seen.distance == pytest.approx(0.5 * np.abs(q - y).sum())
        assert seen.untruncated_distance == pytest.approx(0.5 * np.abs(x - y).sum())
        assert seen.below == (y[token] < x[token])


def test_rejection_averages_to_the_distance_and_tosses_follow_it() -> None:
    with load_pair() as pair:
        config = AgentConfig(scheme="opportunistic", threshold=0.08)
        walks = [walk_prompt(pair, config, prompt, 5, along_target=True) for prompt in fresh_commands(4)]
        assert {
            name: walk.seen
            for name, walk in walk_prompt(pair, config, fresh_commands(1)[0], 5, along_target=True).items()
        } == {name: walk.seen for name, walk in walks[0].items()}
    for way in (TARGET, HYBRID):
        seen = [one for walk in walks for one in walk[way].seen]
        for one in seen:
            assert 0 <= one.rejection <= 1
            assert 0 <= one.distance <= 1
            if one.rejection == 0.0:
                assert one.accepted
        assert abs(np.mean([one.rejection - one.distance for one in seen])) < 0.02


def test_the_text_without_a_link_is_the_text_through_a_broker(broker: LocalBroker) -> None:
    commands = [each.command for each in held_out(4)]
    config = AgentConfig(broker=broker.url, scheme="opportunistic", threshold=0.3, temperature=1.0, seed=9)
    with LocalWorker(broker.url):
        sent = answers(asyncio.run(generate(config, *commands)))
    with load_pair() as pair:
        unsent = [list(write(pair, config, pair.prompt(command), 9).tokens) for command in commands]
    assert sent == unsent


def token_by_token(pair: Pair, config: AgentConfig, prompt: str, seed: int) -> dict[str, Walk]:
    """Both walks, with a pass for every token, along what the real state machines and the target write."""
    sampling = choose_sampling(config, pair.info.sampling)
    policy = build_policy(config, sampling, seed)
    start = pair.prompt(prompt)

    def judged(text: list[int]) -> Walk:
        notes = Notes(sampling, seed, pair.vocab_size)
        for position in range(len(start), len(text)):
            logits = pair.draft.logits(text[:position])[: pair.vocab_size]
            target_probs = warp(pair.target.row(text[:position])[: pair.vocab_size], sampling)
            notes.note(position, logits, policy.propose(logits, position), target_probs)
        return notes.walk()

    own = list(start)
    while len(own) < len(start) + present(config.max_tokens) and own[-1] not in pair.eos_ids:
        own.append(target_choice(warp(pair.target.row(own)[: pair.vocab_size], sampling), seed, len(own)))
    hybrid = [*start, *write(pair, config, start, seed).tokens]
    return {HYBRID: judged(hybrid), TARGET: judged(own)}


@pytest.mark.parametrize("threshold", [0.08, 0.5, 1.0])
def test_runs_give_what_a_pass_for_every_token_gives(threshold: float) -> None:
    config = AgentConfig(scheme="opportunistic", threshold=threshold, max_tokens=48, temperature=1.0)
    for number, prompt in enumerate(fresh_commands(3)):
        with load_pair() as pair:  # with nothing cached
            slow = token_by_token(pair, config, prompt, number)
        with load_pair() as pair:
            fast = walk_prompt(pair, config, prompt, number, along_target=True)
        for way in (HYBRID, TARGET):
            found, expected = Samples.of([fast[way]]), Samples.of([slow[way]])
            for name, values in expected.uncertainty.items():
                assert found.uncertainty[name] == pytest.approx(values, abs=1e-4)
            for name in (
                "rejection",
                "distance",
                "untruncated_distance",
                "costs",
                "sent_bounds",
                "tail_mass",
            ):
                assert getattr(found, name) == pytest.approx(getattr(expected, name), abs=1e-3)
            assert found.num_sent == expected.num_sent
        num_tokens = len(fast[HYBRID].seen)
        assert fast[HYBRID].times.num_passes < num_tokens
        if threshold == 1.0:
            assert fast[HYBRID].times.num_passes == 1


def test_the_largest_of_many_zeros_are_those_of_the_whole_row() -> None:
    probs = np.zeros(50)
    probs[[7, 3, 40]] = 0.5, 0.25, 0.25
    for k in (1, 2, 3, 4, 12, 50):
        exact, _ = rebuilt(probs, k)
        expected = np.full(50, max(0.0, 1.0 - probs[top_ids(probs, k)].sum()) / max(1, 50 - k))
        expected[top_ids(probs, k)] = probs[top_ids(probs, k)]
        assert exact == pytest.approx(expected)


def test_times_are_a_median_and_a_line_without_the_pass_that_reads_the_prompt() -> None:
    first = Times([0.02, 0.03, 0.9], [(16, 5.0), (4, 0.14), (8, 0.18)])
    found = model_times([first, Times([0.03], [(16, 4.0), (16, 0.26)])])
    assert found.draft_seconds == pytest.approx(0.03)
    assert (found.pass_seconds, found.row_seconds) == (pytest.approx(0.1), pytest.approx(0.01))
    assert found.num_passes == 5
    assert model_times([Times([0.02], [(16, 1.0)])]).pass_seconds is None


def test_another_estimator_is_taken_only_where_it_is_better_for_certain() -> None:
    walks = [
        replace(
            walk,
            seen=tuple(
                replace(one, uncertainty={DEFAULT_ESTIMATOR: one.uncertainty["wrong"], **one.uncertainty})
                for one in walk.seen
            ),
        )
        for walk in made_up()
    ]
    assert best_estimator(associate(Samples.of(walks))) == "right"
    alike = [
        replace(
            walk,
            seen=tuple(
                replace(one, uncertainty={DEFAULT_ESTIMATOR: one.rejection, "again": one.rejection})
                for one in walk.seen
            ),
        )
        for walk in walks
    ]
    assert best_estimator(associate(Samples.of(alike))) == DEFAULT_ESTIMATOR
    assert analyse({HYBRID: walks}, None, (0.01,), 0.1).estimator == "right"


def num_lines(folder: Path) -> int:
    """Prompts that a calibration has finished with: a line each."""
    return sum(path.read_text().count("\n") for path in folder.glob("*.jsonl"))


def test_an_interrupted_run_goes_on_and_ends_like_an_undisturbed_one(tmp_path: Path) -> None:
    def command(name: str) -> list[str]:
        flags = ["--num", "4", "--page", str(tmp_path / name), "--work", str(tmp_path / f"{name}-work")]
        return ["calibrate", *flags, "--out", str(tmp_path / f"{name}.json")]

    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-m", "evaluation", *command("stopped")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    began = time.monotonic()
    while not num_lines(tmp_path / "stopped-work") and time.monotonic() < began + TIMEOUT:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 130
    assert "Traceback" not in said
    assert "the same command resumes" in said
    (work,) = (tmp_path / "stopped-work").glob("*.jsonl")
    done = work.read_text()
    assert 1 <= num_lines(tmp_path / "stopped-work") < 4
    for name in ("stopped", "whole"):
        assert main(command(name)) == 0
    assert work.read_text().startswith(done)  # nothing was done twice
    found, expected = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("stopped", "whole"))
    for name in ("draft_seconds", "pass_seconds", "row_seconds"):  # measured, so never twice the same
        assert found.pop(name) >= 0.0
        assert expected.pop(name) >= 0.0
    assert found == expected


def test_the_shipped_calibration_belongs_to_the_shipped_pair() -> None:
    calibration = Calibration.from_json((DEMO_FOLDER / "calibration.json").read_text())
    with load_pair() as pair:
        assert calibration.tokenizer == pair.text.fingerprint.hex()
        assert calibration.sampling == pair.info.sampling
    assert (calibration.draft_model, calibration.target_model) == ("demo", "demo")


# -- mistakes -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("missing.txt", None, "cannot read the prompts"),
        ("empty.txt", "\n \n", "has no prompts"),
        ("prompts.jsonl", '{"command": "x"}\n', "its fields: command"),
        ("broken.jsonl", '{"prompt": \n', "line 1"),
    ],
)
def test_prompts_that_cannot_be_used_are_named(
    name: str, content: str | None, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_text(content)
    assert main(arguments(tmp_path, "--prompts", str(path))) == 2
    complaint = capsys.readouterr().err
    assert complaint.startswith("evaluation calibrate: ")
    assert said in complaint
    assert str(path) in complaint


def test_a_field_of_json_lines_is_taken_as_prompt(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "commands.jsonl"
    path.write_text("".join(json.dumps({"command": each.command}) + "\n" for each in held_out(2)))
    out = ["--out", str(tmp_path / "calibration.json")]
    assert main(arguments(tmp_path, "--prompts", str(path), "--field", "command", *out)) == 0
    assert "2 prompts" in (tmp_path / "page" / "calibration.md").read_text()
    capsys.readouterr()


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--draft", "/no/such/folder"], "a pair of your own needs its own prompts"),
        (["--draft", "/no/such/folder", "--prompts"], "no model folder"),
        (["--target", "/no/such/folder"], "there is no folder"),
        (["--num", "0"], "--num must be at least 1"),
        (["--num", "1"], "one prompt is not enough"),
        (["--temperature", "-1"], "--temperature must be between"),
    ],
)
def test_mistakes_end_in_a_sentence(
    flags: list[str], said: str, tmp_path: Path, prompts: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if flags[-1] == "--prompts":
        flags = [*flags, str(prompts)]
    assert main(arguments(tmp_path, *flags, "--out", str(tmp_path / "calibration.json"))) == 2
    assert said in capsys.readouterr().err


def test_a_pair_that_shares_no_vocabulary_is_refused(
    family_folder: FolderOf, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments(tmp_path, "--target", str(family_folder("llama")))) == 2
    assert "different vocabularies" in capsys.readouterr().err
