"""Which slot a conversation gets, whose processor time is counted, and sequences that share a graph."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.slots.choosing import Held, choose, common_length
from edge_agent.slots.processor_time import ProcessorTime

SYSTEM = list(range(100, 200))
KITCHEN = [*SYSTEM, *range(40)]
HALL = [*SYSTEM, *range(50, 90)]


def test_a_conversation_that_goes_on_gets_its_slot_again() -> None:
    free = {0: Held(KITCHEN, 1), 1: Held(HALL, 2), 2: Held((), 0)}
    assert choose([*KITCHEN, 7, 8, 9], free) == 0
    assert choose([*HALL, 7, 8, 9], free) == 1
    fallen = {**free, 1: Held([*HALL, *range(300, 320)], 2)}  # drafted ahead and rejected
    assert choose([*HALL, 7, 8, 9], fallen) == 1


def test_a_second_conversation_takes_no_cache_although_it_begins_alike() -> None:
    assert choose([*SYSTEM, 1, 2, 3], {0: Held(KITCHEN, 1), 1: Held((), 0)}) == 1
    assert choose([*SYSTEM, 1, 2, 3], {0: Held(KITCHEN, 2), 1: Held([5] * 900, 1)}) == 1
    assert choose([5, 6], {0: Held([5, 7, 8, 9], 1), 1: Held((), 0)}) == 1  # also when both are short


def test_a_prompt_that_is_asked_again_gets_the_slot_that_has_it_whole() -> None:
    free = {0: Held([*KITCHEN, *range(300, 900)], 1), 1: Held((), 0)}
    assert choose(KITCHEN, free) == 0


def test_of_several_that_fit_the_longest_wins_and_then_the_least_recently_used() -> None:
    free = {0: Held(KITCHEN[:120], 3), 1: Held(KITCHEN, 2), 2: Held(KITCHEN, 1)}
    assert choose([*KITCHEN, 7], free) == 2
    assert choose([9], {0: Held((), 5), 1: Held([1], 4), 2: Held((), 6)}) == 1


TOKENS = st.lists(st.integers(0, 2), max_size=12)


@given(
    prompt=TOKENS.filter(bool), held=st.lists(st.tuples(TOKENS, st.integers(0, 9)), min_size=1, max_size=5)
)
def test_the_slot_is_a_free_one_and_the_same_for_the_same_facts(
    prompt: list[int], held: list[tuple[list[int], int]]
) -> None:
    free = {2 * index: Held(tokens, used) for index, (tokens, used) in enumerate(held)}
    slot = choose(prompt, free)
    assert slot in free
    assert choose(tuple(prompt), dict(reversed(free.items()))) == slot


@given(TOKENS, TOKENS)
def test_the_common_beginning_is_as_long_as_it_looks(left: list[int], right: list[int]) -> None:
    length = common_length(left, right)
    assert left[:length] == right[:length]
    assert left[length : length + 1] != right[length : length + 1] or length == min(len(left), len(right))


def test_alone_a_conversation_is_charged_all_and_two_share_what_belongs_to_neither() -> None:
    used: ProcessorTime[str] = ProcessorTime()
    used.begin("a", 10.0)
    assert not used.is_shared
    used.begin("b", 12.0)  # two seconds of a alone
    assert used.is_shared
    used.run_begins("a", 13.0)  # one of both
    used.run_ends(17.0)  # four of a
    used.run_begins("b", 17.0)
    used.run_ends(18.0)  # one of b
    assert used.end("b", 20.0) == pytest.approx(0.5 + 1 + 1)
    assert used.end("a", 21.0) == pytest.approx(2 + 0.5 + 4 + 1 + 1)
    used.begin("c", 30.0)
    assert used.end("c", 30.5) == pytest.approx(0.5)


@given(st.lists(st.tuples(st.sampled_from(["begin", "end", "run"]), st.integers(0, 3), st.floats(0, 5))))
def test_the_shares_add_up_to_what_was_used_while_any_ran(events: list[tuple[str, int, float]]) -> None:
    used: ProcessorTime[int] = ProcessorTime()
    now, running, total, given_out = 0.0, set[int](), 0.0, 0.0
    for what, key, seconds in events:
        now += seconds
        total += seconds if running else 0.0
        if what == "begin" and key not in running:
            used.begin(key, now)
            running.add(key)
        elif what == "end" and key in running:
            given_out += used.end(key, now)
            running.remove(key)
        elif what == "run" and key in running:
            used.run_begins(key, now)
            now, total = now + 1.0, total + 1.0
            used.run_ends(now)
    given_out += sum(used.end(key, now) for key in running)
    assert given_out == pytest.approx(total)
