"""`auto` on recorded texts of a real pair: close to the better of `llm` and `lossless` on any link."""

import pytest

from benchmarks.drafting_ahead.records import without_drafts
from benchmarks.drafting_ahead.replay import Replayed, replay
from benchmarks.scheme_choice import GOAL, PASSES_MS, READING, mixture
from evaluation.simulate.variants import variant
from evaluation.simulate.world.compute import Compute

SLOW = [(5, 60, 50), (15, 25, 50), (30, 60, 50), (30, 200, 200), (60, 60, 5), (120, 6, 200)]


def replayed(scheme: str, point: tuple[int, int, int], num_rounds: int) -> Replayed:
    draft, forward, trip = point
    compute = Compute(
        draft_seconds=draft / 1000,
        prompt_seconds=READING * draft / 1000,
        pass_seconds=forward / 1000,
        position_seconds=PASSES_MS[forward] / 1000,
    )
    texts = mixture(num_rounds)
    return replay(without_drafts(texts) if scheme == "llm" else texts, variant(scheme), compute, trip / 1000)


def of_the_better(point: tuple[int, int, int], num_rounds: int) -> float:
    better = max(replayed(scheme, point, num_rounds).rate for scheme in ("llm", "lossless"))
    return replayed("auto", point, num_rounds).rate / better


def test_behind_a_slow_pass_it_drafts_and_before_a_quick_one_it_streams() -> None:
    assert of_the_better((30, 370, 5), 1) >= GOAL
    assert of_the_better((60, 12, 50), 1) >= GOAL


def test_where_it_streams_it_sends_hardly_anything() -> None:
    point = (60, 12, 50)
    assert replayed("auto", point, 1).num_uplinks <= 2 * replayed("llm", point, 1).num_uplinks


@pytest.mark.slow
@pytest.mark.parametrize("point", SLOW)
def test_it_is_close_to_the_better_on_mixed_texts(point: tuple[int, int, int]) -> None:
    assert of_the_better(point, 2) >= GOAL - 0.01
