"""Schemes are compared at equal measured drift, with intervals that the committed replies give again."""

from pathlib import Path

import numpy as np
import pytest

from common.sampling.randomness import FloatArray
from evaluation.simulate.claims import BYTES_FIGURE, RIGHT_FIGURE, claims, figures
from evaluation.simulate.curves import (
    DRIFT,
    PAYLOAD,
    RIGHT,
    TOKENS,
    WORTHS,
    AtDrift,
    Curve,
    at_drift,
    bytes_in,
    draw_weights,
    seconds_in,
)
from evaluation.simulate.measures import truncation_drift
from evaluation.simulate.pages.curves_page import write_curve_sections
from evaluation.simulate.replies import FILE_NAME, read_replies, write_replies
from evaluation.simulate.variants import best_length

WORLD = "a link"
NUM_COMMANDS = 12


def curve(label: str, drifts: list[float], num_bytes: list[float], right: float = 1.0) -> Curve:
    """A curve whose replies all have 10 tokens, at these drifts and bytes per token."""
    shape = (len(drifts), NUM_COMMANDS)
    noise = np.random.default_rng(len(label)).uniform(0.9, 1.1, NUM_COMMANDS)
    columns = {name: np.zeros(shape) for name in WORTHS}
    columns[PAYLOAD] = np.ones(shape)
    columns[TOKENS] = np.full(shape, 10.0)
    columns[RIGHT] = np.full(shape, right)
    columns[DRIFT] = 10 * np.outer(drifts, noise / noise.mean())
    columns[seconds_in(WORLD)] = np.full(shape, 0.5)
    columns[bytes_in(WORLD)] = 10 * np.outer(num_bytes, noise / noise.mean())
    knobs = tuple(float(i) for i in range(len(drifts))) if len(drifts) > 1 else (None,)
    numbers = np.arange(NUM_COMMANDS)
    return Curve(label, knobs, numbers, 7 + numbers, columns)


def row(*numbers: float) -> FloatArray:
    return np.array([numbers])


def test_between_two_thresholds_a_figure_is_that_of_using_each_for_a_share_of_the_answers() -> None:
    assert at_drift(row(0.0, 0.002), row(40.0, 20.0), 0.0005) == pytest.approx(35.0)
    assert at_drift(row(0.0, 0.001, 0.002), row(40.0, 30.0, 10.0), 0.001) == pytest.approx(30.0)


def test_a_drift_that_no_threshold_reaches_has_no_figure() -> None:
    assert np.isnan(at_drift(row(0.0, 0.002), row(40.0, 20.0), 0.003))
    assert np.isnan(at_drift(row(0.002, 0.003), row(40.0, 20.0), 0.001))
    assert at_drift(row(0.0, 0.002), row(40.0, 20.0), 0.002) == pytest.approx(20.0)


def test_a_scheme_without_drift_keeps_every_level_and_the_draft_model_alone_keeps_none() -> None:
    assert at_drift(row(0.0), row(20.0), 0.001) == pytest.approx(20.0)
    assert np.isnan(at_drift(row(0.03), row(20.0), 0.001))


def test_a_threshold_that_costs_nothing_is_used() -> None:
    """Of thresholds with the same drift the highest counts, and a drift that falls by chance is no gain."""
    assert at_drift(row(0.0, 0.0, 0.002), row(40.0, 30.0, 10.0), 0.0) == pytest.approx(30.0)
    assert at_drift(row(0.0, 0.002, 0.001, 0.004), row(40.0, 30.0, 20.0, 10.0), 0.002) == pytest.approx(20.0)


def test_all_curves_are_resampled_alike_so_equal_curves_differ_by_nothing() -> None:
    weights = draw_weights(NUM_COMMANDS, 50)
    one, other = (AtDrift.of(curve("same", [0.0, 0.002], [40.0, 20.0]), 0.001, weights) for _ in range(2))
    assert one.bytes_up[WORLD].tolist() == other.bytes_up[WORLD].tolist()
    assert len(set(one.bytes_up[WORLD].round(6).tolist())) > 10


def test_claims_are_made_at_equal_drift_and_not_at_equal_thresholds() -> None:
    """Theirs needs fewer bytes at each threshold, but only because it drifts more."""
    ours = curve("opportunistic", [0.0, 0.001, 0.002], [40.0, 20.0, 10.0])
    theirs = curve("cu-hlm-offline, k = 1", [0.0, 0.004, 0.008], [40.0, 18.0, 8.0])
    found = {one.figure: one for one in claims([ours, theirs], levels=(0.001,))}
    ratio = found[f"{BYTES_FIGURE}: {WORLD}"].tested
    assert ratio.estimate.value == pytest.approx(20.0 / 34.5, rel=0.02)
    assert ratio.holds
    assert not found[RIGHT_FIGURE].tested.holds


def test_what_is_out_of_reach_is_left_out_and_not_guessed() -> None:
    ours, slm = curve("opportunistic", [0.0, 0.001], [40.0, 20.0]), curve("slm", [0.03], [0.0])
    assert not claims([ours, slm], levels=(0.001,))
    assert all(one.estimate is None for one in figures([slm], levels=(0.001,)))


def test_the_replies_give_the_same_pages_again_without_models(tmp_path: Path) -> None:
    made = [
        curve("opportunistic", [0.0, 0.001, 0.006], [40.0, 20.0, 10.0]),
        curve("cu-hlm-offline, k = 1, window 4", [0.0, 0.002, 0.006], [40.0, 18.0, 8.0], right=0.5),
        curve("lossless", [0.0], [30.0]),
    ]
    first, again = tmp_path / "first", tmp_path / "again"
    path = write_replies(first / FILE_NAME, made)
    write_curve_sections(first, "made", read_replies(path))
    write_replies(again / FILE_NAME, read_replies(path))
    write_curve_sections(again, "made", read_replies(again / FILE_NAME))
    for file in first.iterdir():
        assert (again / file.name).read_bytes() == file.read_bytes(), file.name
    read = read_replies(path)
    assert [each.knobs for each in read] == [each.knobs for each in made]
    assert read[0].columns[DRIFT] == pytest.approx(made[0].columns[DRIFT], rel=1e-5)


def test_truncation_moves_a_verified_token_and_sending_all_does_not() -> None:
    draft, target = np.array([0.6, 0.3, 0.1]), np.array([0.2, 0.3, 0.5])
    assert truncation_drift(draft, draft, target) == pytest.approx(0.0)
    assert truncation_drift(draft, np.array([0.6, 0.2, 0.2]), target) == pytest.approx(0.1)


def test_the_fastest_block_is_chosen_and_of_equal_ones_the_shortest() -> None:
    assert best_length({1: 20.0, 2: 30.0, 3: 25.0}) == 2
    assert best_length({1: 20.0, 2: 30.0, 3: 30.0}) == 2
