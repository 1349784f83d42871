"""Draft and target model that name different end tokens: either of them ends a text, whenever it is known."""

from collections.abc import Iterator
from dataclasses import replace
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.protocol.messages import Correction, Draft, Reason, Refusal, ToDevice
from edge_agent.session.transcript import FinalToken
from tests.laws.test_endings import DRAFTING, HOLDING, WINDOWS, counts
from tests.support.circle import Circle
from tests.support.fakes import VOCAB_SIZE
from tests.support.narrowing import expect

VERIFYING = [scheme for scheme in DRAFTING if scheme != "slm"]
UNJUDGED = ("local", "unverified")
ENDS = st.frozensets(st.integers(0, VOCAB_SIZE - 1), max_size=3)


@cache
def endless(scheme: str, seed: int, temperature: float) -> tuple[FinalToken, ...]:
    """The text without end tokens."""
    circle = Circle(scheme=scheme, seed=seed, temperature=temperature)
    circle.settle()
    return tuple(circle.final)


def expected(
    free: tuple[FinalToken, ...], drafts: frozenset[int], targets: frozenset[int]
) -> tuple[list[int], str]:
    """The text up to the draft's first end, or the target's first from the first judged position on."""
    is_judged = False
    for index, (token, fate) in enumerate((final.token, final.fate) for final in free):
        is_judged |= fate not in UNJUDGED
        if token in drafts or (is_judged and token in targets):
            return [final.token for final in free[: index + 1]], "stop"
    return [final.token for final in free], "length"


def ended(circle: Circle) -> tuple[list[int], str | None, str | None]:
    return circle.text, circle.edge.finish_reason, circle.edge.failure


@pytest.mark.parametrize("scheme", [*DRAFTING, "llm"])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
@given(seed=st.integers(0, 300), drafts=ENDS, targets=ENDS)
@settings(max_examples=6)
def test_either_models_end_tokens_end_the_text(
    scheme: str, temperature: float, seed: int, drafts: frozenset[int], targets: frozenset[int]
) -> None:
    text, reason = expected(endless(scheme, seed, temperature), drafts, targets)
    circles: list[Circle] = []
    for window, block in WINDOWS:
        circle = Circle(
            scheme=scheme, seed=seed, temperature=temperature, window=window, block_length=block,
            stop_ids=drafts, worker_ends=targets,
        )  # fmt: skip
        circle.settle()
        circles.append(circle)
        assert ended(circle) == (text, reason, None)
        assert circle.edge.tally.num_tokens == len(text)
        assert len(circle.edge.tokens) == 4 + len(text)
    several = [circle for circle in circles if circle.window != 1]  # window 1 may ask for bonus tokens
    assert all(counts(circle.edge.tally) == counts(several[0].edge.tally) for circle in several)


@given(seed=st.integers(0, 300), drafts=ENDS, targets=ENDS, temperature=st.sampled_from([0.0, 1.0]))
@settings(max_examples=20)
def test_streamed_and_coupled_text_end_alike(
    seed: int, drafts: frozenset[int], targets: frozenset[int], temperature: float
) -> None:
    schemes = ["llm", "coupled", "auto", "lossless"] if temperature == 0.0 else ["llm", "coupled", "auto"]
    circles = [
        Circle(
            scheme=scheme, seed=seed, temperature=temperature, stop_ids=drafts, worker_ends=targets, window=4
        )
        for scheme in schemes
    ]
    for circle in circles:
        circle.settle()
    assert all(ended(circle) == ended(circles[0]) for circle in circles)


@pytest.mark.parametrize("scheme", [*HOLDING, "llm"])
def test_the_end_is_the_targets_wherever_it_stands_in_a_block(scheme: str) -> None:
    free = [final.token for final in endless(scheme, 3, 1.0)]
    for place, token in enumerate(free):
        for window, block in ((1, 8), (8, 8), (8, 3)):
            circle = Circle(
                scheme=scheme, seed=3, window=window, block_length=block, worker_ends=frozenset([token])
            )
            circle.settle()
            assert ended(circle) == (free[: free.index(token) + 1], "stop", None), place
            assert circle.edge.tally.num_resent == 0


@pytest.mark.parametrize("scheme", VERIFYING)
def test_nothing_that_was_drafted_behind_an_end_is_sent_once_it_is_known(scheme: str) -> None:
    free = [final.token for final in endless(scheme, 2, 1.0)]
    for token in set(free):
        circle = Circle(scheme=scheme, seed=2, window=8, worker_ends=frozenset([token]))
        while not circle.to_device and not circle.edge.finished:
            for _ in range(40):
                circle.draft()
            while circle.to_workers:
                circle.deliver_to_worker(0)
            circle.work("w0")
        while circle.to_device:
            circle.deliver_to_device(0)
        known = [item.message for item in circle.to_workers if isinstance(item.message, Draft)]
        assert all(token not in [each.token for each in draft.block[:-1]] for draft in known)
        circle.settle()
        text, reason = expected(endless(scheme, 2, 1.0), frozenset(), frozenset([token]))
        assert ended(circle) == (text, reason, None)


def test_an_end_that_is_skipped_before_the_first_uplink_is_the_draft_models_own_affair() -> None:
    """The device cannot know it yet; what it has shown stays."""
    free = endless("slm", 1, 1.0)
    circle = Circle(scheme="slm", worker_ends=frozenset(range(VOCAB_SIZE)))
    circle.settle()
    assert (circle.text, circle.edge.finish_reason) == ([final.token for final in free], "length")


def test_an_end_that_is_skipped_after_the_first_uplink_ends_the_text() -> None:
    found = 0
    for seed in range(40):
        free = endless("opportunistic", seed, 1.0)
        judged = next((i for i, final in enumerate(free) if final.fate not in UNJUDGED), len(free))
        skipped = [final.token for final in free[judged:] if final.fate in UNJUDGED]
        if not skipped:
            continue
        circle = Circle(scheme="opportunistic", seed=seed, worker_ends=frozenset(skipped[:1]), window=4)
        circle.settle()
        assert ended(circle) == (*expected(free, frozenset(), frozenset(skipped[:1])), None)
        found += circle.final[-1].fate in UNJUDGED
    assert found > 5


# -- what is on the wire -------------------------------------------------------------------------------


def answers(circle: Circle) -> Iterator[ToDevice]:
    """What the workers answer while the generation runs to its end."""
    for _ in range(1000):
        if circle.edge.finished:
            return
        circle.draft()
        while circle.to_workers:
            circle.deliver_to_worker(0)
        circle.work("w0")
        yield from circle.to_device
        while circle.to_device:
            circle.deliver_to_device(0)
    raise AssertionError("the generation does not end")


@pytest.mark.parametrize("scheme", [*HOLDING, "llm"])
def test_the_answer_to_an_opening_lists_the_ends_and_no_other_does(scheme: str) -> None:
    told = [
        expect(Correction, answer).context_codes
        for answer in answers(Circle(scheme=scheme, window=2, worker_ends=frozenset([11, 7])))
        if not isinstance(answer, Refusal)
    ]
    assert told[0] == bytes([7, 0, 0, 11, 0, 0])
    assert not any(told[1:])


def test_a_lost_answer_tells_the_ends_when_it_comes_again() -> None:
    token = endless("lossless", 1, 1.0)[10].token
    circle = Circle(window=4, worker_ends=frozenset([token]))
    while len(circle.to_workers) < 1:
        circle.draft()
    circle.deliver_to_worker(0)
    circle.work("w0")
    circle.to_device.clear()
    circle.pass_time(10.0)
    circle.settle()
    assert ended(circle) == (*expected(endless("lossless", 1, 1.0), frozenset(), frozenset([token])), None)
    assert circle.edge.tally.num_resent > 0


@pytest.mark.parametrize("scheme", [*VERIFYING, "llm"])
def test_an_older_worker_lists_none_and_the_draft_models_ends_hold(scheme: str) -> None:
    free = endless(scheme, 4, 1.0)
    drafts = frozenset([free[12].token])
    circle = Circle(scheme=scheme, seed=4, stop_ids=drafts, worker_ends=frozenset(), window=3)
    circle.settle()
    assert ended(circle) == (*expected(free, drafts, frozenset()), None)


@pytest.mark.parametrize("codes", [b"\x01", b"\x01\x02", bytes(4)])
def test_ends_that_are_not_whole_are_ignored(codes: bytes) -> None:
    circle = Circle()
    while not circle.to_workers:
        circle.draft()
    circle.deliver_to_worker(0)
    circle.work("w0")
    answer = expect(Correction, circle.to_device.pop())
    circle.advance(replace(answer, context_codes=codes))
    circle.settle()
    assert circle.text == [final.token for final in endless("lossless", 1, 1.0)]


def test_ends_of_another_worker_do_not_change_what_is_known() -> None:
    """A pool serves one model; one that does not must not make the text depend on who answered when."""
    free = endless("lossless", 1, 1.0)
    circle = Circle(window=1, worker_ends=frozenset([free[20].token]))
    for _ in answers(circle):
        circle.worker_ends = frozenset(range(VOCAB_SIZE))
        circle.advance(Refusal(None, Reason.BUSY, "w0"))
        circle.workers["w0"] = circle.new_worker("w0")
    assert ended(circle)[:2] == expected(free, frozenset(), frozenset([free[20].token]))
