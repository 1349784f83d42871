"""Law 3 for a draft model that fails: an error counts only where the text gets to, whenever it is found.

What is drafted ahead of a rejection is never part of the text, so neither is its error.
"""

import zlib
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.errors import ModelError
from edge_agent.session.events import DraftFailed
from tests.support.circle import PROMPT, Circle
from tests.support.narrowing import present

SCHEMES = ["lossless", "coupled", "hlm", "opportunistic", "u-hlm", "slm"]
WINDOWS = [(1, 1), (1, 8), (2, 3), (4, 1), (6, 4), (3, 30)]
Breaks = Callable[[Sequence[int]], bool]


def run(circle: Circle, breaks: Breaks, *, late: bool = False) -> tuple[list[int], str, int]:
    """The text, how it ended, how often the draft model failed; `late`: answers come when it has to wait."""
    num_failures = 0
    for _ in range(5000):
        if circle.edge.finished:
            return circle.text, str(circle.edge.finish_reason), num_failures
        if circle.edge.draft_error is not None:
            return circle.text, str(circle.edge.draft_error), num_failures
        if circle.edge.wants_draft and breaks(circle.edge.tokens):
            position = len(present(circle.edge.begin_draft()))
            num_failures += 1
            circle.advance(DraftFailed(ModelError(f"not finite at position {position}")))
        else:
            circle.draft()
        if late and circle.edge.wants_draft:
            continue
        while circle.to_workers:
            circle.deliver_to_worker(0)
        for name in circle.workers:
            while circle.workers[name].ready:
                circle.work(name)
        while circle.to_device:
            circle.deliver_to_device(0)
    raise AssertionError("the generation does not end")


def never(_: Sequence[int]) -> bool:
    return False


@pytest.mark.parametrize("scheme", [*SCHEMES, "auto"])
@given(seed=st.integers(0, 1000))
@settings(max_examples=3, deadline=None)
def test_errors_beside_the_text_change_nothing(scheme: str, seed: int) -> None:
    text, reason, _ = run(Circle(scheme=scheme, seed=seed), never)
    true = [*PROMPT, *text]

    def breaks(tokens: Sequence[int]) -> bool:
        return list(tokens) != true[: len(tokens)]

    for window, block_length in WINDOWS:
        for late in (False, True):
            circle = Circle(scheme=scheme, seed=seed, window=window, block_length=block_length)
            assert run(circle, breaks, late=late)[:2] == (text, reason)


@pytest.mark.parametrize("scheme", SCHEMES)
@given(seed=st.integers(0, 1000), at=st.integers(0, 23))
@settings(max_examples=3, deadline=None)
def test_an_error_in_the_text_ends_it_there_at_any_window_and_time(scheme: str, seed: int, at: int) -> None:
    text, _, _ = run(Circle(scheme=scheme, seed=seed, temperature=1.0), never)
    broken = zlib.crc32(bytes([*PROMPT, *text[:at]]))

    def breaks(tokens: Sequence[int]) -> bool:
        return zlib.crc32(bytes(tokens)) == broken

    for window, block_length in WINDOWS if scheme != "coupled" else WINDOWS[2:]:  # alone, it asks for a bonus
        for late in (False, True):
            circle = Circle(scheme=scheme, seed=seed, window=window, block_length=block_length)
            found = run(circle, breaks, late=late)
            assert found[:2] == (text[:at], f"not finite at position {len(PROMPT) + at}")


@given(seed=st.integers(0, 1000), at=st.integers(0, 23))
@settings(max_examples=10, deadline=None)
def test_auto_has_the_target_write_on_where_the_draft_model_fails(seed: int, at: int) -> None:
    text, reason, _ = run(Circle(scheme="llm", seed=seed), never)

    def breaks(tokens: Sequence[int]) -> bool:
        return len(tokens) >= len(PROMPT) + at

    for window, block_length in [*WINDOWS, (None, None)]:
        for late in (False, True):
            circle = Circle(scheme="auto", seed=seed, window=window, block_length=block_length)
            assert run(circle, breaks, late=late)[:2] == (text, reason)


def test_drafting_ahead_stops_at_an_error_and_goes_on_behind_a_rejection() -> None:
    text, _, _ = run(Circle(window=6), never)
    true = [*PROMPT, *text]
    circle = Circle(window=6, block_length=2)
    _, reason, num_failures = run(circle, lambda tokens: list(tokens) != true[: len(tokens)], late=True)
    assert reason == "length"
    assert 0 < num_failures <= len(text)
