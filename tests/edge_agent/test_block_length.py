"""The rule for a block's length, against the formulas it stands for."""

import pytest

from common.protocol.messages import DraftToken
from edge_agent.session.block import Block
from edge_agent.session.block_length import BlockLength


def length(
    rule: BlockLength, round_trip: float | None, uncertainty: float = 0.5, num_in_flight: int = 1
) -> int:
    """How many tokens of this uncertainty make a block."""
    held = Block()
    while not rule.is_full(held, round_trip, num_in_flight):
        held.add(DraftToken(1), uncertainty)
    return len(held)


def measured(window: int, draft_time: float, verify_time: float, acceptance: float) -> BlockLength:
    rule = BlockLength(window)
    for _ in range(100):
        rule.drafted(draft_time)
        rule.verified(verify_time, 100, round(100 * acceptance))
    return rule


def test_nothing_measured_yet_falls_back() -> None:
    assert length(BlockLength(4), None) == 8


def test_the_first_token_goes_up_at_once_to_find_a_worker_but_not_when_each_block_is_waited_for() -> None:
    assert length(BlockLength(4), None, num_in_flight=0) == 1
    assert length(BlockLength(1), None, num_in_flight=0) == 8


def test_certain_tokens_wait_longer_than_uncertain_ones() -> None:
    rule = measured(8, 0.02, 0.06, 0.98)
    assert length(rule, 0.16, uncertainty=0.2) == 3
    assert 8 < length(rule, 0.16, uncertainty=0.0) <= rule.longest


def test_one_uncertain_token_takes_the_certain_ones_before_it_along() -> None:
    rule, held = measured(8, 0.02, 0.06, 0.98), Block()
    for _ in range(5):
        held.add(DraftToken(1), 0.0)
    assert not rule.is_full(held, 0.16, 1)
    held.add(DraftToken(1), 0.3)
    assert rule.is_full(held, 0.16, 1)
    assert len(held.take()) == 6
    assert not rule.is_full(held, 0.16, 1)


def test_an_idle_target_is_asked_at_once_unless_the_token_is_certain() -> None:
    rule = measured(8, 0.02, 0.06, 0.98)
    assert length(rule, 0.16, uncertainty=0.2, num_in_flight=0) == 1
    assert length(rule, 0.16, uncertainty=0.0, num_in_flight=0) > 8


def test_a_fixed_length_stays_fixed() -> None:
    assert length(BlockLength(4, fixed=3), 10.0) == 3
    assert length(BlockLength(4, fixed=3), None, num_in_flight=0) == 3


@pytest.mark.parametrize("acceptance", [0.5, 0.8, 0.95])
@pytest.mark.parametrize("round_trip", [0.02, 0.16, 1.0])
def test_stop_and_wait_takes_the_length_with_the_most_tokens_a_second(
    acceptance: float, round_trip: float
) -> None:
    rule = measured(1, 0.02, 0.06, acceptance)
    a = rule.acceptance

    def rate(n: int) -> float:
        return (1 - a**n) / (1 - a) / (n * 0.02 + round_trip)

    best = max(range(1, rule.longest + 1), key=rate)
    assert length(rule, round_trip) == best


def test_a_pipelined_block_lasts_for_its_share_of_the_round_trip() -> None:
    assert length(measured(4, 0.02, 0.0, 0.9), 0.4) == 5


def test_a_pipelined_block_is_no_shorter_than_a_forward_pass() -> None:
    assert length(measured(8, 0.02, 0.06, 0.9), 0.16) == 3


def test_a_near_worker_gets_short_blocks() -> None:
    assert length(measured(4, 0.02, 0.002, 0.9), 0.01) == 1


def test_a_token_costs_a_hundredth_of_a_rejection_per_token_of_the_least_length() -> None:
    rule = measured(8, 0.02, 0.06, 0.9)  # at least 3 tokens; each of these risks 0.00835, of 0.03 in all
    assert length(rule, 0.16, uncertainty=0.09) == 4
    assert length(rule, 0.16, uncertainty=0.09, num_in_flight=0) == 4


@pytest.mark.parametrize("window", [1, 4])
def test_no_block_is_longer_than_the_longest(window: int) -> None:
    assert length(measured(window, 0.001, 0.0, 1.0), 100.0) == 32


def test_acceptance_begins_at_three_quarters_and_follows_what_is_tested() -> None:
    rule = BlockLength(4)
    assert rule.acceptance == 0.75
    rule.verified(0.1, 8, 8)
    rule.verified(0.1, 4, 0)
    assert rule.acceptance == (8 + 6) / (12 + 8)


def test_times_move_by_an_eighth_and_the_first_one_is_taken_as_it_is() -> None:
    rule = BlockLength(4)
    for seconds in (0.8, 0.0):
        rule.drafted(seconds)
        rule.verified(2 * seconds, 1, 1)
    assert (rule.draft_time, rule.verify_time) == (pytest.approx(0.7), pytest.approx(1.4))


def test_without_a_round_trip_or_without_a_draft_time_it_falls_back() -> None:
    rule = BlockLength(4)
    assert length(rule, 0.1) == 8
    rule.drafted(0.02)
    assert length(rule, None) == 8
