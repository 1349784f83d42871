"""The rule for a block's length, against the formulas it stands for."""

import pytest

from edge_agent.block_length import BlockLength


def length(rule: BlockLength, round_trip: float | None) -> int:
    return next(n for n in range(1, 200) if rule.is_full(n, round_trip))


def measured(window: int, draft_time: float, verify_time: float, acceptance: float) -> BlockLength:
    rule = BlockLength(window)
    for _ in range(100):
        rule.drafted(draft_time)
        rule.verified(verify_time, 100, round(100 * acceptance))
    return rule


def test_nothing_measured_yet_falls_back():
    assert length(BlockLength(4), None) == 8


def test_a_fixed_length_stays_fixed():
    assert length(BlockLength(4, fixed=3), 10.0) == 3


@pytest.mark.parametrize("acceptance", [0.5, 0.8, 0.95])
@pytest.mark.parametrize("round_trip", [0.02, 0.16, 1.0])
def test_stop_and_wait_takes_the_length_with_the_most_tokens_a_second(acceptance, round_trip):
    rule = measured(1, 0.02, 0.06, acceptance)
    a = rule.acceptance

    def rate(n: int) -> float:
        return (1 - a**n) / (1 - a) / (n * 0.02 + round_trip)

    best = max(range(1, rule.longest + 1), key=rate)
    assert length(rule, round_trip) == best


def test_a_pipelined_block_lasts_for_its_share_of_the_round_trip():
    assert length(measured(4, 0.02, 0.0, 0.9), 0.4) == 5


def test_a_pipelined_block_is_no_shorter_than_a_forward_pass():
    assert length(measured(8, 0.02, 0.06, 0.9), 0.16) == 3


def test_a_near_worker_gets_short_blocks():
    assert length(measured(4, 0.02, 0.002, 0.9), 0.01) == 1
