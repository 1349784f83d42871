"""When held tokens go up and what is drafted ahead: rules that follow from measured times and rejections."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.protocol.messages import DraftToken
from edge_agent.session.held import Held
from edge_agent.session.pacing import MAX_IN_FLIGHT, Experience, InTheAir, Pacing
from edge_agent.session.pass_time import PassTime
from edge_agent.session.plan import LONGEST, Times, best_plan, hold_rate, pipeline_rate
from edge_agent.session.rejection_rate import RejectionRate
from edge_agent.session.sending import is_enough_ahead
from tests.support.narrowing import present

NOTHING = InTheAir(0, 0.0)
SLOW = Times(draft=0.03, network=0.02, base=0.37, slope=0.01)  # two models on one CPU
QUICK = Times(draft=0.03, network=0.2, base=0.025, slope=0.0)  # a GPU behind a long line


def passes(times: Times) -> PassTime:
    """What is known after passes of many sizes."""
    known = PassTime()
    for num_positions in (1, 4, 9, 2) * 5:
        known.observe(times.forward(num_positions), num_positions)
    return known


def measured(
    times: Times, rejection: float, *, window: int | None = None, fixed: int | None = None
) -> Pacing:
    """After texts in which `rejection` of the tested tokens were rejected."""
    experience = Experience(times.draft, times.network, passes(times), rejection)
    return Pacing(window, fixed, experience)


def length(pacing: Pacing, risk: float, air: InTheAir = NOTHING) -> int:
    """How many tokens of this risk make a block; more than the longest: none."""
    held = Held()
    while not pacing.is_due(held, air) and len(held) <= LONGEST:
        held.add(10 + len(held), DraftToken(1), risk)
    return len(held)


times_of = st.builds(
    Times,
    draft=st.floats(0.001, 0.3),
    network=st.floats(0.001, 0.5),
    base=st.floats(0.001, 1.0),
    slope=st.floats(0.0, 0.05),
)


@given(times_of, st.floats(0.01, 0.9), st.integers(1, LONGEST))
def test_no_fixed_length_is_much_faster_than_the_plan(times: Times, rejection: float, other: int) -> None:
    plan = best_plan(times, rejection, drafts_ahead=True)
    assert 1 <= plan.length <= plan.most <= LONGEST
    assert plan.rate >= 0.95 * pipeline_rate(times, rejection, other)
    assert plan.rate >= 0.95 * hold_rate(times, rejection, other, 0)


@given(times_of, st.floats(0.01, 0.9))
def test_where_nothing_is_drafted_ahead_no_length_is_faster_than_the_plans(
    times: Times, rejection: float
) -> None:
    plan = best_plan(times, rejection, drafts_ahead=False)
    best = max(hold_rate(times, rejection, one, 0) for one in range(1, LONGEST + 1))
    assert plan.rate == pytest.approx(best)


def test_where_drafting_takes_longest_text_that_is_mostly_rejected_goes_up_token_by_token() -> None:
    assert best_plan(Times(0.3, 0.001, 0.01, 0.01), 0.8, drafts_ahead=False).length == 1


def test_a_slow_worker_is_asked_one_draft_at_a_time_and_a_far_one_in_a_pipeline() -> None:
    assert not best_plan(SLOW, 0.4, drafts_ahead=True).is_pipeline
    assert best_plan(QUICK, 0.1, drafts_ahead=True).is_pipeline


def test_harder_text_gets_shorter_blocks() -> None:
    lengths = [best_plan(SLOW, rejection, drafts_ahead=True).length for rejection in (0.02, 0.1, 0.4, 0.8)]
    assert lengths == sorted(lengths, reverse=True)
    assert lengths[0] > lengths[-1]


def test_a_block_ends_after_a_token_that_will_hardly_be_accepted() -> None:
    pacing, held = measured(SLOW, 0.1), Held()
    held.add(10, DraftToken(1), 0.01)
    assert not pacing.is_due(held, NOTHING)
    held.add(11, DraftToken(1), 0.8)
    assert pacing.is_due(held, NOTHING)


def test_with_a_slow_worker_nothing_goes_up_before_the_answer() -> None:
    pacing = measured(SLOW, 0.4)
    assert length(pacing, 0.4, InTheAir(1, 0.5)) > LONGEST
    assert length(pacing, 0.4) <= 8


def test_in_a_pipeline_uncertain_tokens_go_up_while_others_are_in_flight() -> None:
    assert length(measured(QUICK, 0.1), 0.3, InTheAir(1, 0.1)) <= 2
    assert 2 < length(measured(QUICK, 0.1), 0.01, InTheAir(1, 0.1)) <= LONGEST


def test_in_a_pipeline_no_draft_follows_another_before_half_a_pass_is_drafted() -> None:
    times = Times(draft=0.01, network=0.2, base=0.1, slope=0.0)
    due = [is_enough_ahead(times, 0.1, num, 0.0, 1.0, behind=True) for num in (1, 4, 6, 20)]
    assert due == [False, False, True, True]
    assert is_enough_ahead(times, 0.1, 1, 0.0, 1.0, behind=False)


def test_no_more_is_drafted_ahead_than_the_next_block_holds() -> None:
    pacing, held = measured(SLOW, 0.4), Held()
    most = present(pacing.plan).most
    assert most < LONGEST
    while len(held) < most:
        assert pacing.drafts_ahead(held, InTheAir(1, 0.1))
        held.add(10 + len(held), DraftToken(1), 0.0)
    assert not pacing.drafts_ahead(held, InTheAir(1, 0.1))


def test_what_will_hardly_stand_is_not_drafted_ahead() -> None:
    pacing = measured(SLOW, 0.4)
    assert pacing.drafts_ahead(Held(), InTheAir(1, 0.5))
    assert not pacing.drafts_ahead(Held(), InTheAir(1, 4.0))
    assert pacing.drafts_ahead(Held(), NOTHING)


@given(times_of, st.floats(0.002, 0.9), st.floats(0.0, 0.9))
def test_something_always_goes_on(times: Times, rejection: float, risk: float) -> None:
    """With nothing in flight drafting goes on, and at some length the block goes up."""
    pacing = measured(times, rejection)
    assert pacing.drafts_ahead(Held(), NOTHING)
    assert 1 <= length(pacing, risk) <= LONGEST


def test_no_more_drafts_are_in_flight_than_the_window_or_the_most() -> None:
    assert measured(QUICK, 0.1, window=2).drafts_ahead(Held(), InTheAir(1, 0.0))
    assert not measured(QUICK, 0.1, window=2).drafts_ahead(Held(), InTheAir(2, 0.0))
    assert not measured(QUICK, 0.1).drafts_ahead(Held(), InTheAir(MAX_IN_FLIGHT, 0.0))


def test_a_fixed_length_stays_fixed() -> None:
    assert length(measured(SLOW, 0.4, window=4, fixed=3), 0.0) == 3
    assert length(Pacing(4, 3), 0.9, InTheAir(1, 9.0)) == 3


def test_the_end_of_a_text_goes_up_ahead_if_it_will_probably_stand() -> None:
    pacing, held = measured(SLOW, 0.4), Held()
    held.add(10, DraftToken(1), 0.1)
    assert pacing.is_due(held, InTheAir(1, 0.1), ends=True)
    assert not pacing.is_due(held, InTheAir(1, 3.0), ends=True)
    assert pacing.is_due(held, NOTHING, ends=True)


@pytest.mark.parametrize(("window", "first"), [(None, 4), (4, 4), (1, 8)])
def test_nothing_measured_yet_falls_back(window: int | None, first: int) -> None:
    assert length(Pacing(window), 0.0) == first
    assert length(Pacing(window), 0.5) == 2


def test_while_nothing_is_known_the_first_answer_is_waited_for_unless_a_window_is_given() -> None:
    assert length(Pacing(None), 0.5, InTheAir(1, 0.0)) > LONGEST
    assert length(Pacing(4), 0.5, InTheAir(1, 0.0)) == 8


def test_skipped_tokens_make_a_held_one_dearer_to_draft() -> None:
    always, seldom = measured(SLOW, 0.2), measured(SLOW, 0.2)
    for number in range(60):
        always.drafted(0.03, is_held=True)
        seldom.drafted(0.03, is_held=number % 4 == 0)
    assert seldom.plan is not None
    assert always.plan is not None
    assert seldom.plan.length < always.plan.length


def test_the_next_text_begins_with_what_this_one_has_shown() -> None:
    pacing = Pacing(None)
    assert pacing.plan is None
    pacing.drafted(0.9, is_held=True, num_unread=50)
    assert pacing.draft_time is None  # it read the prompt, which shows nothing of other tokens
    pacing.drafted(0.03, is_held=True)
    pacing.answered(0.9, 0.88, 50, waited=False)
    assert pacing.plan is None  # reading the prompt shows little of other passes
    pacing.answered(0.4, 0.38, 3, waited=False)
    pacing.rejections.tested(1.0, 30, is_rejected=True)
    after = Pacing(None, experience=pacing.experience)
    assert after.plan is not None
    assert after.rejections.rate == pytest.approx(pacing.rejections.rate)
    assert after.network == pytest.approx(0.02)


@pytest.mark.parametrize(
    ("draft", "network", "num_passes"), [(None, 0.02, 20), (0.03, None, 20), (0.03, 0.02, 1)]
)
def test_there_is_no_plan_while_one_of_its_times_is_missing(
    draft: float | None, network: float | None, num_passes: int
) -> None:
    known = PassTime()
    for _ in range(num_passes):
        known.observe(0.4, 5)
    assert Pacing(None, experience=Experience(draft, network, known)).plan is None


def test_the_next_text_begins_with_the_same_line_of_passes() -> None:
    known = PassTime()
    for num_positions in (1, 2) * 10:
        known.observe(0.05 * num_positions, num_positions)
    assert known.remembered().slope == pytest.approx(known.slope) != 0.0


def test_a_pass_is_a_line_over_its_positions() -> None:
    known = passes(Times(0.03, 0.02, base=0.37, slope=0.01))
    assert known.base == pytest.approx(0.37, abs=0.02)
    assert known.slope == pytest.approx(0.01, rel=0.4)
    assert passes(Times(0.03, 0.02, base=0.025, slope=0.0)).slope == pytest.approx(0.0, abs=1e-6)


@given(st.lists(st.tuples(st.floats(0.0, 5.0), st.integers(1, 500)), min_size=1, max_size=20))
def test_no_pass_is_expected_to_take_less_than_nothing(seen: list[tuple[float, int]]) -> None:
    known = PassTime()
    for seconds, num_positions in seen:
        known.observe(seconds, num_positions)
    assert known.slope >= 0.0
    assert known.base >= 0.0
    assert known.remembered().slope == pytest.approx(known.slope, abs=1e-9)


def test_a_text_harder_than_the_line_predicts_is_noticed() -> None:
    rejections = RejectionRate()
    for _ in range(10):
        rejections.tested(0.2, 2, is_rejected=True)
    assert rejections.hardness > 2.0
    assert 0.3 < rejections.rate < 0.5


def test_held_tokens_are_in_pieces_where_others_were_skipped() -> None:
    held = Held()
    for position in (5, 6, 9, 10, 12):
        held.add(position, DraftToken(position), 0.5)
    assert [(piece.start, piece.end) for piece in held.pieces] == [(5, 7), (9, 11), (12, 13)]
    assert math.exp(-held.hazard) == pytest.approx(0.5**5)
    assert [math.exp(-piece.hazard) for piece in held.pieces] == pytest.approx([0.25, 0.25, 0.5])
    held.cut(10)
    assert [(piece.start, piece.end) for piece in held.pieces] == [(5, 7), (9, 10)]
    assert held.start == 5
    assert len(held) == 3


@pytest.mark.parametrize("times", [SLOW, QUICK])
def test_where_most_tokens_are_skipped_one_that_is_held_goes_up_at_once(times: Times) -> None:
    far_between = Experience(times.draft, times.network, passes(times), 0.2, share_held=0.05)
    assert length(Pacing(None, experience=far_between), 0.01) == 1
    assert length(Pacing(None, experience=Experience(share_held=0.05)), 0.01) == 1
    assert length(measured(times, 0.2), 0.01) > 1
    skipping = Pacing(None, experience=far_between)
    for _ in range(20):
        skipping.drafted(times.draft, is_held=True)
    assert length(skipping, 0.01) > 1
