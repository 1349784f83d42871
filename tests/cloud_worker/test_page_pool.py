"""The page pool's law: what counts as present is exactly the content of the tokens that were asked for."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from cloud_worker.passes.page_pool import PagePool, Placement

PAGE_SIZE = 3
NUM_PAGES = 9
SESSIONS = st.integers(0, 3)
TOKENS = st.lists(st.integers(0, 1), min_size=1, max_size=14)
GARBAGE = ("garbage",)


class Memory:
    """What a model would have written: each entry of a page knows the whole beginning it belongs to."""

    def __init__(self) -> None:
        self.entries: dict[tuple[int, int], tuple[object, ...]] = {}

    def copy(self, placement: Placement) -> None:
        for source, target in placement.copies:
            for offset in range(PAGE_SIZE):
                self.entries[target, offset] = self.entries.get((source, offset), GARBAGE)

    def write(self, placement: Placement, tokens: list[int], *, garbage: bool = False) -> None:
        for position in range(placement.start, len(tokens)):
            entry = (placement.pages[position // PAGE_SIZE], position % PAGE_SIZE)
            self.entries[entry] = GARBAGE if garbage else tuple(tokens[: position + 1])

    def holds(self, pages: tuple[int, ...], tokens: list[int]) -> bool:
        return all(
            self.entries.get((pages[i // PAGE_SIZE], i % PAGE_SIZE)) == tuple(tokens[: i + 1])
            for i in range(len(tokens))
        )


class PoolMachine(RuleBasedStateMachine):
    """Sessions over few tokens in a tight pool, so that sharing, copies and evictions are the rule."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = PagePool(NUM_PAGES, PAGE_SIZE)
        self.memory = Memory()
        self.committed: dict[int, tuple[tuple[int, ...], list[int]]] = {}

    @rule(
        batch=st.dictionaries(SESSIONS, st.tuples(TOKENS, st.integers(0, 4)), min_size=1), fails=st.booleans()
    )
    def run(self, batch: dict[int, tuple[list[int], int]], fails: bool) -> None:
        placed: dict[int, Placement] = {}
        for session, (tokens, num_rows) in batch.items():
            limit = max(0, len(tokens) - num_rows)
            promised = self.pool.find(session, tokens, limit)
            placement = self.pool.place(session, tokens, limit, pinned=set(placed))
            self.committed.pop(session, None)
            if placement is None:
                assert placed, "a sequence that fits the pool must find room when nothing is pinned"
                break
            assert placement.start == promised <= limit
            assert len(placement.pages) == -(-len(tokens) // PAGE_SIZE)
            self.memory.copy(placement)
            assert self.memory.holds(placement.pages, tokens[: placement.start])
            placed[session] = placement
        for session, placement in placed.items():
            tokens = batch[session][0]
            self.memory.write(placement, tokens, garbage=fails)
            if not fails:
                self.pool.commit(session, tokens)
                self.committed[session] = (placement.pages, tokens)

    @rule(session=SESSIONS)
    def release(self, session: int) -> None:
        self.pool.release(session)
        self.committed.pop(session, None)

    @invariant()
    def nobody_else_wrote_into_a_session(self) -> None:
        for session, (pages, tokens) in self.committed.items():
            if self.pool.cached_tokens(session) == len(tokens):  # not evicted
                assert self.memory.holds(pages, tokens)

    @invariant()
    def every_page_is_free_or_used(self) -> None:
        used = {
            page
            for session, (pages, tokens) in self.committed.items()
            if self.pool.cached_tokens(session) == len(tokens)
            for page in pages
        }
        assert len(used) <= NUM_PAGES - self.pool.num_free

    def teardown(self) -> None:
        for session in range(4):
            self.pool.release(session)
        assert self.pool.num_free == NUM_PAGES
        assert self.pool.num_sessions == 0


TestPoolMachine = PoolMachine.TestCase
TestPoolMachine.settings = settings(max_examples=80, stateful_step_count=30, deadline=None)


def fill(pool: PagePool, session: str, tokens: list[int]) -> Placement:
    placement = pool.place(session, tokens, len(tokens) - 1)
    assert placement is not None
    pool.commit(session, tokens)
    return placement


def test_sessions_that_begin_alike_share_full_pages() -> None:
    pool = PagePool(10, PAGE_SIZE)
    first = fill(pool, "a", [1, 2, 3, 4, 5, 6, 7])
    second = fill(pool, "b", [1, 2, 3, 4, 5, 6, 8, 9])
    assert second.start == 6
    assert second.pages[:2] == first.pages[:2]
    assert pool.num_free == 10 - 4


def test_equal_pages_after_different_beginnings_are_not_shared() -> None:
    pool = PagePool(10, PAGE_SIZE)
    fill(pool, "a", [1, 1, 1, 7, 7, 7])
    assert fill(pool, "b", [2, 2, 2, 7, 7, 7]).start == 0


def test_a_session_that_rewinds_into_a_shared_page_gets_a_copy() -> None:
    pool = PagePool(10, PAGE_SIZE)
    first = fill(pool, "a", [1, 2, 3, 4, 5, 6, 7])
    fill(pool, "b", [1, 2, 3, 4, 5, 6, 8])
    rewound = fill(pool, "b", [1, 2, 3, 4, 9])
    assert rewound.start == 4
    assert rewound.copies == ((first.pages[1], rewound.pages[1]),)


def test_the_same_prompt_again_computes_only_the_wanted_row() -> None:
    pool = PagePool(10, PAGE_SIZE)
    first = fill(pool, "a", [1, 2, 3, 4, 5, 6])
    second = fill(pool, "b", [1, 2, 3, 4, 5, 6])
    assert second.start == 5
    assert second.copies == ((first.pages[1], second.pages[1]),)


def test_a_rewound_page_is_not_offered_under_its_old_content() -> None:
    pool = PagePool(10, PAGE_SIZE)
    fill(pool, "a", [1, 2, 3, 4])
    fill(pool, "a", [1, 2, 9, 9])
    assert pool.find("b", [1, 2, 3, 4], 4) == 0
    assert pool.find("b", [1, 2, 9, 4], 4) == 3


def test_the_least_recently_placed_session_is_evicted_first() -> None:
    pool = PagePool(4, PAGE_SIZE)
    fill(pool, "a", [1] * 6)
    fill(pool, "b", [2] * 6)
    fill(pool, "a", [1] * 5 + [0])
    fill(pool, "c", [3] * 3)
    assert [pool.cached_tokens(session) for session in "abc"] == [6, 0, 3]


def test_a_forgotten_session_leaves_its_beginning_to_others_until_room_is_needed() -> None:
    pool = PagePool(4, PAGE_SIZE)
    fill(pool, "a", [1] * 6)
    pool.release("a")
    assert pool.find("b", [1] * 6, 6) == 6
    fill(pool, "c", [3] * 9)
    assert pool.find("b", [1] * 6, 6) == 3  # the end was given up before the beginning


def test_pinned_sessions_are_not_evicted() -> None:
    pool = PagePool(2, PAGE_SIZE)
    fill(pool, "a", [1] * 6)
    assert pool.place("b", [2], 0, pinned={"a"}) is None
    assert pool.cached_tokens("a") == 6


@pytest.mark.parametrize("session", ["a", "b"])
def test_an_abandoned_placement_does_not_count(session: str) -> None:
    pool = PagePool(10, PAGE_SIZE)
    fill(pool, "a", [1, 2, 3, 4])
    pool.place(session, [1, 2, 3, 4, 5, 6, 7], 4)
    assert pool.find(session, [1, 2, 3, 4, 5, 6, 7], 7) == 3


def test_without_room_for_a_copy_a_shared_page_stays_as_it_is() -> None:
    pool = PagePool(2, PAGE_SIZE)
    fill(pool, "a", [1] * 6)
    assert pool.place("b", [1] * 6, 4, pinned={"a"}) is None
    assert fill(pool, "b", [1] * 6).copies == ()  # nobody else is left to be disturbed
    assert pool.cached_tokens("a") == 0
