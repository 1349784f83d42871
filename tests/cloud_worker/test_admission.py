"""A draft against a worker's limits: each bound is allowed, and one more is refused."""

from dataclasses import replace

import pytest

from cloud_worker.session.admission import Target, beyond_limits
from cloud_worker.session.backlog import MAX_DRAFTS, Backlog
from cloud_worker.session.job import MAX_CHAIN_ROWS
from cloud_worker.session.session import MAX_REMEMBERED, CloudSession
from common.protocol.checksum import prefix_check
from common.protocol.messages import (
    MAX_CONTEXT_PROBS,
    Correction,
    Draft,
    DraftToken,
    Reason,
    Refusal,
    ToDevice,
)
from tests.support.circle import PROMPT, Circle
from tests.support.fakes import TOKENIZER, VOCAB_SIZE, opening
from tests.support.narrowing import expect, present

TARGET = Target("w0", TOKENIZER, VOCAB_SIZE, max_tokens=600)


def draft(
    context: int, block: int = 0, *, base: int = 0, bonus: int = 0, probs: int = 0, n: int = 0
) -> Draft:
    opened = opening() if base == 0 else None
    return Draft(n, 0, base, (1,) * context, (DraftToken(1),) * block, bonus, probs, opening=opened)


@pytest.mark.parametrize(
    "fits",
    [
        draft(599, 1),
        draft(600),
        draft(600, 0, probs=1),
        draft(598, 1, bonus=1),
        draft(598, 1, bonus=4000),
        draft(1, 1),
        draft(2, probs=1),
        draft(1, bonus=1),
        draft(0, 1, base=1),
        draft(300, probs=MAX_CONTEXT_PROBS),
    ],
)
def test_a_draft_at_a_bound_is_verified(fits: Draft) -> None:
    assert beyond_limits(fits, TARGET) is None


@pytest.mark.parametrize(
    ("refused", "reason"),
    [
        (draft(599, 2), Reason.TOO_LONG),
        (draft(601, probs=1), Reason.TOO_LONG),
        (draft(599, 1, bonus=1), Reason.TOO_LONG),
        (draft(100, 1, base=500), Reason.TOO_LONG),
        (draft(0, 1), Reason.BAD_REQUEST),
        (draft(1, probs=1), Reason.BAD_REQUEST),
        (draft(5, base=5), Reason.BAD_REQUEST),
        (draft(300, probs=MAX_CONTEXT_PROBS + 1), Reason.BAD_REQUEST),
        (Draft(0, 0, 0, (VOCAB_SIZE,), (), 1, opening=opening()), Reason.BAD_REQUEST),
        (Draft(0, 0, 0, (1,), (DraftToken(VOCAB_SIZE),), opening=opening()), Reason.BAD_REQUEST),
    ],
)
def test_a_draft_beyond_a_bound_is_refused(refused: Draft, reason: Reason) -> None:
    assert present(beyond_limits(refused, TARGET)).reason is reason


def test_a_refusal_for_length_states_the_length_and_the_limit() -> None:
    refusal = present(beyond_limits(draft(599, 3), TARGET))
    assert (refusal.have, "602 tokens" in refusal.detail) == (600, True)


def test_a_backlog_takes_so_many_drafts_and_so_many_tokens() -> None:
    many = Backlog(max_tokens=10**6)
    for n in range(MAX_DRAFTS):
        assert many.has_room(draft(1, 1, n=n))
        many.add(draft(1, 1, n=n))
    assert not many.has_room(draft(1, 1, n=MAX_DRAFTS))
    long = Backlog(max_tokens=100)
    long.add(draft(60, 1))
    assert long.has_room(draft(40, 5, n=1))
    assert not long.has_room(draft(41, n=1))


# -- a session -------------------------------------------------------------------------------------------


def circle_with(*drafts: Draft, target: Target = TARGET) -> Circle:
    """A worker that has been sent these drafts."""
    circle = Circle(num_workers=1)
    circle.workers["w0"] = CloudSession(target)
    for one in drafts:
        circle.to_device += circle.workers["w0"].receive(one)
    return circle


def continuing(n: int, held: list[int], block: int = 0, probs: int = 1) -> Draft:
    """A draft that appends one token to what is held, and verifies it by `probs` or a block after it."""
    return Draft(n, 0, len(held), (1,), (DraftToken(1),) * block, 0, probs, prefix_check(held))


def test_a_chain_ends_before_it_has_too_many_rows() -> None:
    first = draft(300, probs=MAX_CONTEXT_PROBS)
    held = list(first.context)
    drafts = [first]
    for n in range(1, 40):
        following = Draft(n, 0, len(held), (1,) * 10, (), 0, 10, prefix_check(held))
        drafts.append(following)
        held += following.context
    job, _ = circle_with(*drafts).workers["w0"].next_job()
    assert 256 + 10 * (len(present(job).drafts) - 1) == present(job).num_rows - 1 <= MAX_CHAIN_ROWS
    assert present(job).num_rows > MAX_CHAIN_ROWS - 10


def test_a_repeated_draft_gets_the_answer_it_got_as_long_as_that_is_remembered() -> None:
    circle = circle_with(Draft(0, 0, 0, tuple(PROMPT), (), 0, 1, opening=opening()))
    held = list(PROMPT)
    circle.work("w0")
    for n in range(1, MAX_REMEMBERED + 1):
        circle.to_device += circle.workers["w0"].receive(continuing(n, held))
        circle.work("w0")
        held.append(1)
    answers, circle.to_device = circle.to_device, []
    assert [expect(Correction, answer).n for answer in answers] == list(range(MAX_REMEMBERED + 1))
    session = circle.workers["w0"]
    assert session.receive(continuing(1, list(PROMPT))) == [answers[1]]
    assert session.receive(Draft(0, 0, 0, tuple(PROMPT), (), 0, 1, opening=opening())) == []  # forgotten
    circle.work("w0")
    assert (circle.to_device, session.tokens) == ([], held)  # and stale: it rewinds nothing


def test_a_session_with_too_many_drafts_says_busy_for_a_second() -> None:
    circle = circle_with(*(draft(1, 1, n=n) for n in range(MAX_DRAFTS + 1)))
    (refusal,) = circle.to_device
    assert refusal == Refusal(MAX_DRAFTS, Reason.BUSY, "w0", "too many drafts are waiting", retry_after=1.0)


def test_a_huge_draft_is_refused_before_its_turn() -> None:
    (refusal,) = circle_with(draft(601, probs=1)).to_device
    assert expect(Refusal, refusal).reason is Reason.TOO_LONG
    assert circle_with(draft(600, probs=1)).to_device == []


def streamed(target: Target, bonus: int) -> list[ToDevice]:
    """What a worker answers to a draft that asks for `bonus` tokens after four of context."""
    circle = circle_with(Draft(0, 0, 0, tuple(PROMPT), (), bonus, opening=opening()), target=target)
    while circle.workers["w0"].ready:
        circle.work("w0")
    return circle.to_device


@pytest.mark.parametrize("room", [1, 2, 5])
def test_a_stream_that_no_longer_fits_is_refused_after_its_last_token_and_one_that_just_fits_is_not(
    room: int,
) -> None:
    target = replace(TARGET, max_tokens=len(PROMPT) + room)
    *tokens, refusal = streamed(target, bonus=room + 1)
    assert [expect(Correction, answer).index for answer in tokens] == list(range(room))
    assert expect(Refusal, refusal).reason is Reason.TOO_LONG
    assert streamed(target, bonus=room) == tokens


@pytest.mark.parametrize("room", [1, 3])
def test_a_stream_that_an_end_token_ends_where_the_room_ends_is_not_refused(room: int) -> None:
    free = [expect(Correction, answer) for answer in streamed(TARGET, bonus=room)]
    ends = replace(TARGET, max_tokens=len(PROMPT) + room, eos_ids=frozenset([present(free[-1].token)]))
    assert len(streamed(ends, bonus=20)) == room
