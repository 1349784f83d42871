"""The scheduler: who comes next, who must go, and that no device can crowd out the others."""

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloud_worker.scheduling.retries import Failure
from cloud_worker.scheduling.scheduler import Answer, Limits, Scheduler, SessionKey, Task
from cloud_worker.session.judging import Judged, judge
from cloud_worker.session.session import Target
from common.protocol.messages import Close, Correction, Draft, DraftToken, Opening, Reason, Refusal, ToWorker
from tests.support.fakes import TOKENIZER, VOCAB_SIZE, FakeModel, opening
from tests.support.narrowing import expect

MODEL = FakeModel(0)


def scheduler(**limits: float) -> Scheduler:
    return Scheduler(Target("w0", TOKENIZER, VOCAB_SIZE, max_tokens=64), replace(Limits(), **limits))


def key(number: int = 0, device: str = "kitchen") -> SessionKey:
    return SessionKey(device, f"s{number}")


def first_draft(n: int = 0, *, seed: int = 1, bonus: int = 0) -> Draft:
    return Draft(n, 0, 0, (1, 2, 3), (DraftToken(4),), bonus=bonus, opening=opening(seed))


def judged(tasks: list[Task]) -> list[list[Judged]]:
    return [judge(task.job, MODEL.rows(task.job.tokens, task.job.num_rows)) for task in tasks]


def step(scheduler: Scheduler) -> list[Answer]:
    """One turn of a worker's loop."""
    tasks, answers = scheduler.next_batch()
    return answers + scheduler.complete(tasks, judged(tasks), 1.0)


def run(scheduler: Scheduler, max_steps: int = 100) -> list[Answer]:
    answers: list[Answer] = []
    for _ in range(max_steps):
        if not scheduler.num_waiting:
            return answers
        answers += step(scheduler)
    raise AssertionError("the scheduler does not come to rest")


# -- order ---------------------------------------------------------------------------------------------


def test_a_batch_holds_the_sessions_that_wait_longest_and_no_more_than_the_limit() -> None:
    held = scheduler(max_batch=2)
    for number in range(5):
        held.receive(key(number), first_draft())
    batches = [[answer.key for answer in step(held)] for _ in range(3)]
    assert batches == [[key(0), key(1)], [key(2), key(3)], [key(4)]]


def test_a_session_is_in_a_batch_once_however_many_drafts_it_has() -> None:
    held = scheduler()
    for n in range(5):
        held.receive(key(), first_draft(n))
    tasks, _ = held.next_batch()
    assert [task.key for task in tasks] == [key()]


def test_a_long_stream_of_tokens_takes_turns_with_the_others() -> None:
    held = scheduler(max_batch=1)
    held.receive(key(0), Draft(0, 0, 0, (1, 2), (), bonus=40, opening=opening()))
    step(held)
    for number in (1, 2):
        held.receive(key(number), first_draft())
    order = [answer.key.session for _ in range(6) for answer in step(held)]
    assert order[:4] == ["s0", "s1", "s2", "s0"]


def test_a_flood_of_one_session_delays_another_by_one_turn() -> None:
    held = scheduler(max_batch=1)
    held.receive(key(0, "flood"), first_draft(0))
    held.receive(key(1), first_draft())
    served = []
    for n in range(1, 10):
        held.receive(key(0, "flood"), first_draft(n))
        served += [answer.key.device for answer in step(held)]
    assert "kitchen" in served[:2]


def test_answers_that_need_no_pass_come_with_the_batch() -> None:
    held = scheduler()
    held.receive(key(), first_draft())
    step(held)
    held.receive(key(), Draft(1, 9, 60, (), (DraftToken(1),), check=5))
    tasks, answers = held.next_batch()
    assert tasks == []
    assert [expect(Refusal, answer.message).reason for answer in answers] == [Reason.NEED_CONTEXT]
    assert held.num_waiting == 0


# -- admission -----------------------------------------------------------------------------------------


def test_an_unknown_session_that_brings_no_context_is_asked_for_it() -> None:
    held = scheduler()
    (answer,) = held.receive(key(), Draft(7, 0, 5, (), (DraftToken(1),), check=1))
    assert answer == Answer(key(), Refusal(7, Reason.NEED_CONTEXT, "w0", have=0))
    assert held.num_sessions == 0


def test_a_full_queue_says_busy_to_new_sessions_and_goes_on_with_the_old_ones() -> None:
    held = scheduler(max_queue=2, retry_after=3.0)
    held.receive(key(0), first_draft())
    run(held)
    for number in (1, 2):
        assert held.receive(key(number), first_draft()) == []
    (answer,) = held.receive(key(3), first_draft(9))
    refusal = expect(Refusal, answer.message)
    assert (refusal.n, refusal.reason, refusal.retry_after) == (9, Reason.BUSY, 3.0)
    assert held.receive(key(0), first_draft(1)) == []
    assert {answer.key.session for answer in run(held)} == {"s0", "s1", "s2"}
    assert held.receive(key(3), first_draft(10)) == []


def test_a_device_with_too_many_sessions_loses_its_own_oldest() -> None:
    held = scheduler(max_sessions_per_device=2)
    held.receive(key(0, "other"), first_draft())
    for number in range(2):
        held.receive(key(number), first_draft())
    run(held)
    held.receive(key(0), first_draft(1))  # used again: now s1 is the oldest
    held.receive(key(2), first_draft())
    assert held.take_forgotten() == [key(1)]
    assert held.take_forgotten() == []
    assert held.num_sessions == 3


def test_the_least_recently_used_session_goes_when_there_are_too_many() -> None:
    held = scheduler(max_sessions=3)
    for number in range(3):
        held.receive(key(number, f"d{number}"), first_draft())
    run(held)
    held.receive(key(0, "d0"), first_draft(1))
    held.receive(key(3, "d3"), first_draft())
    assert held.take_forgotten() == [key(1, "d1")]
    (answer,) = held.receive(key(1, "d1"), Draft(1, 0, 4, (), (DraftToken(1),), check=1))
    assert expect(Refusal, answer.message).reason is Reason.NEED_CONTEXT


def test_a_session_that_goes_on_keeps_its_seat_and_newcomers_are_told_so() -> None:
    held = scheduler(max_sessions=2, max_sessions_per_device=2, seat_seconds=10.0)
    for number in range(2):
        held.receive(key(number, f"d{number}"), first_draft(), now=float(number))
    run(held)
    (answer,) = held.receive(key(2, "d2"), first_draft(5), now=9.9)
    refusal = expect(Refusal, answer.message)
    assert (refusal.n, refusal.reason) == (5, Reason.BUSY)
    assert "all of them are in use" in refusal.detail
    assert held.num_sessions == 2
    assert held.receive(key(2, "d2"), first_draft(5), now=10.0) == []
    assert held.take_forgotten() == [key(0, "d0")]


def test_a_device_that_exceeds_its_own_share_cannot_take_the_seats_of_others() -> None:
    held = scheduler(max_sessions=2, max_sessions_per_device=1, seat_seconds=10.0)
    held.receive(key(0, "lamp"), first_draft())
    held.receive(key(0, "flood"), first_draft())
    run(held)
    held.receive(key(1, "flood"), first_draft(), now=1.0)
    assert held.take_forgotten() == [key(0, "flood")]


def occupied(num_devices: int, sessions_each: int, now: float = 0.0, **limits: float) -> Scheduler:
    """A worker whose seats are all held by some devices, with as many sessions each, all in use."""
    seats = num_devices * sessions_each
    held = scheduler(max_sessions=seats, max_sessions_per_device=16, seat_seconds=10.0, **limits)
    for number in range(sessions_each):
        for device in range(num_devices):
            assert held.receive(key(number, f"holder{device}"), first_draft(), now=now) == []
    run(held)
    return held


def holdings(held: Scheduler) -> dict[str, int]:
    return dict(Counter(key.device for key in held.keys))


def test_who_holds_no_seat_gets_one_from_who_holds_most() -> None:
    held = occupied(16, 16)
    assert held.num_sessions == 256
    for number in range(16):  # every newcomer, from another holder each time
        assert held.receive(key(0, f"lamp{number}"), first_draft(), now=1.0) == []
        assert held.take_forgotten() == [key(0, f"holder{number}")]
        assert isinstance(run(held)[0].message, Correction)
    assert set(holdings(held).values()) == {1, 15}


def test_the_session_that_the_holder_of_most_used_least_recently_goes() -> None:
    held = scheduler(max_sessions=4, seat_seconds=10.0)
    held.receive(key(0, "oldest"), first_draft(), now=0.0)
    for number in range(3):
        held.receive(key(number, "gateway"), first_draft(), now=1.0)
    held.receive(key(0, "gateway"), first_draft(1), now=2.0)  # used again: now s1 is its oldest
    run(held)
    held.receive(key(0, "lamp"), first_draft(), now=3.0)
    assert held.take_forgotten() == [key(1, "gateway")]


def test_who_lost_a_seat_does_not_take_it_back() -> None:
    held = occupied(2, 4)
    held.receive(key(0, "lamp"), first_draft(), now=1.0)
    (lost,) = held.take_forgotten()
    (answer,) = held.receive(lost, first_draft(), now=2.0)
    assert "all of them are in use" in expect(Refusal, answer.message).detail
    assert holdings(held) == {"holder0": 3, "holder1": 4, "lamp": 1}


def test_seats_that_are_shared_evenly_stay_where_they_are() -> None:
    held = occupied(8, 1)
    (answer,) = held.receive(key(0, "lamp"), first_draft(), now=1.0)
    assert expect(Refusal, answer.message).reason is Reason.BUSY
    assert held.take_forgotten() == []


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 7)), max_size=80))
def test_while_all_seats_are_in_use_no_device_is_pushed_below_its_share(
    script: list[tuple[int, int]],
) -> None:
    held = scheduler(max_sessions=12, max_sessions_per_device=8, seat_seconds=10.0)
    for device, session in script:
        before = holdings(held)
        held.receive(key(session, f"d{device}"), first_draft(), now=1.0)
        after = holdings(held)
        for name, count in before.items():
            if after.get(name, 0) < count:  # it gave one to a device that now holds no more than it
                assert after[f"d{device}"] <= after[name]


def test_a_queue_that_others_filled_does_not_keep_out_who_waits_with_nothing() -> None:
    held = scheduler(max_queue=8, max_sessions_per_device=8)
    for number in range(8):
        held.receive(key(number, "gateway"), first_draft())
    (answer,) = held.receive(key(8, "gateway"), first_draft())
    assert "waiting already" in expect(Refusal, answer.message).detail
    assert held.receive(key(0, "lamp"), first_draft()) == []
    assert "lamp" in [answer.key.device for answer in step(held)]


def test_a_long_queue_of_one_device_is_not_held_against_another() -> None:
    held = scheduler(max_batch=1, max_wait=2.0)
    for number in range(16):
        held.receive(key(number, "gateway"), first_draft())
    tasks, _ = held.next_batch()
    held.complete(tasks, judged(tasks), 5000.0)
    assert held.expected_wait > 2.0
    (answer,) = held.receive(key(16, "gateway"), first_draft())
    assert "queue is" in expect(Refusal, answer.message).detail
    assert held.receive(key(0, "lamp"), first_draft()) == []
    assert "lamp" in [answer.key.device for _ in range(2) for answer in step(held)]


def test_newcomers_are_sent_away_when_the_queue_has_become_long() -> None:
    held = scheduler(max_batch=1, max_wait=2.0)
    for number in range(40):
        held.receive(key(number, f"d{number}"), first_draft())
    for _ in range(20):
        tasks, _ = held.next_batch()
        held.complete(tasks, judged(tasks), 500.0)
    assert held.expected_wait > 2.0
    (answer,) = held.receive(key(99, "late"), first_draft(3))
    refusal = expect(Refusal, answer.message)
    assert refusal.reason is Reason.BUSY
    assert "queue is" in refusal.detail
    assert held.receive(key(0, "d0"), Draft(1, 0, 4, (), (DraftToken(1),), check=1)) == []  # it is known here
    run(held)
    assert held.receive(key(99, "late"), first_draft(3)) == []


def test_the_wait_is_that_of_the_batches_before_by_the_turns_that_devices_take() -> None:
    held = scheduler(max_batch=2)
    for number in range(8):
        held.receive(key(number, "gateway"), first_draft())
    tasks, _ = held.next_batch()
    held.complete(tasks, judged(tasks), 800.0)  # the first pass counts for an eighth
    held.receive(key(0, "lamp"), first_draft())
    assert held.expected_wait == pytest.approx(0.1 * 3)  # 7 sessions in batches of 2
    assert [held.wait_of(device) for device in ("new", "lamp", "gateway")] == pytest.approx(
        [0.1 * 1, 0.1 * 1, 0.1 * 3]  # before them: 1 + 1, 2 + 1, 6 + 1
    )


def test_an_evicted_session_leaves_the_queue() -> None:
    held = scheduler(max_sessions_per_device=1)
    held.receive(key(0), first_draft())
    held.receive(key(1), first_draft())
    assert held.num_waiting == 1
    assert [answer.key for answer in run(held)] == [key(1)]


# -- passes that take longer, fail, or are not wanted any more -----------------------------------------


def test_a_long_pass_goes_on_first_in_the_next_batch() -> None:
    held = scheduler(max_batch=2)
    for number in range(3):
        held.receive(key(number), first_draft())
    tasks, _ = held.next_batch()
    assert held.complete(tasks, [None, judged(tasks)[1]], 1.0)[0].key == key(1)
    assert held.num_waiting == 2
    following, _ = held.next_batch()
    assert [task.key for task in following] == [key(0), key(2)]
    assert following[0].job == tasks[0].job
    held.complete(following, judged(following), 1.0)
    assert held.num_waiting == 0


def test_drafts_that_come_during_a_long_pass_are_answered_after_it() -> None:
    held = scheduler()
    held.receive(key(), first_draft(0))
    tasks, _ = held.next_batch()
    held.receive(key(), first_draft(1))
    held.complete(tasks, [None], 1.0)
    tasks, _ = held.next_batch()
    assert len(tasks) == 1
    numbers = [answer.message.n for answer in held.complete(tasks, judged(tasks), 1.0) + run(held)]
    assert numbers == [0, 1]


@pytest.mark.parametrize("is_long", [False, True])
def test_a_session_that_is_closed_during_its_pass_gets_no_answer(is_long: bool) -> None:
    held = scheduler()
    held.receive(key(), first_draft())
    tasks, _ = held.next_batch()
    if is_long:
        held.complete(tasks, [None], 1.0)
    held.receive(key(), Close())
    assert held.take_forgotten() == [key()]
    if is_long:
        tasks, _ = held.next_batch()
    assert held.complete(tasks, judged(tasks), 1.0) == []
    assert held.num_waiting == held.num_sessions == 0


def test_a_session_that_is_opened_again_during_its_pass_does_not_get_the_old_answer() -> None:
    held = scheduler()
    held.receive(key(), first_draft(0))
    tasks, _ = held.next_batch()
    held.receive(key(), Close())
    held.receive(key(), first_draft(5, seed=99))
    assert held.complete(tasks, judged(tasks), 1.0) == []
    assert [answer.message.n for answer in run(held)] == [5]


def test_closing_an_unknown_session_is_nothing() -> None:
    held = scheduler()
    assert held.receive(key(), Close()) == []
    assert held.take_forgotten() == []


def test_a_failed_pass_says_busy_and_the_draft_can_come_again() -> None:
    held = scheduler(retry_after=0.5)
    held.receive(key(0), first_draft(4))
    held.receive(key(1), first_draft(6))
    tasks, _ = held.next_batch()
    held.receive(key(1), Close())
    (answer,) = [answer for task in tasks for answer in held.abandon(task, "out of memory")]
    assert answer == Answer(key(0), Refusal(4, Reason.BUSY, "w0", "out of memory", retry_after=0.5))
    assert held.num_waiting == 0
    held.receive(key(0), first_draft(4))
    assert isinstance(run(held)[0].message, Correction)


def test_a_failed_pass_does_not_hold_up_what_waits_behind_it() -> None:
    held = scheduler()
    held.receive(key(), first_draft(0))
    tasks, _ = held.next_batch()
    held.receive(key(), first_draft(1))
    held.abandon(tasks[0], "out of memory")
    assert [answer.message.n for answer in run(held)] == [1]


# -- any messages, in any order ------------------------------------------------------------------------

WRONG_OPENING = Opening(b"otherone", VOCAB_SIZE, opening().sampling, 1)

messages = st.one_of(
    st.just(Close()),
    st.builds(first_draft, st.integers(0, 6), seed=st.integers(0, 3), bonus=st.sampled_from([0, 1, 5, 4096])),
    st.just(Draft(3, 0, 0, (1,), (DraftToken(1),), opening=WRONG_OPENING)),
    st.builds(
        Draft,
        n=st.integers(0, 6),
        epoch=st.integers(0, 2),
        base=st.integers(1, 70),
        context=st.lists(st.integers(0, 20), max_size=3).map(tuple),
        block=st.lists(st.builds(DraftToken, st.integers(0, 20)), max_size=3).map(tuple),
        bonus=st.sampled_from([0, 1, 9]),
        num_context_probs=st.integers(0, 3),
        check=st.integers(0, 2**32 - 1),
    ),
)
events = st.one_of(
    st.tuples(st.integers(0, 3), st.integers(0, 2), messages),
    st.sampled_from(["begin", "finish", "pause", "fail", "fail together"]),
)


@given(st.lists(events, max_size=60))
@settings(max_examples=100, deadline=None)
def test_whatever_devices_send_the_scheduler_keeps_its_limits_and_comes_to_rest(
    script: list[str | tuple[int, int, ToWorker]],
) -> None:
    limits = Limits(max_sessions=5, max_sessions_per_device=2, max_batch=2, max_queue=3)
    held = Scheduler(Target("w0", TOKENIZER, VOCAB_SIZE, max_tokens=24), limits)
    running: list[Task] | None = None
    forgotten: list[SessionKey] = []
    for event in script:
        match event:
            case "begin" if running is None:
                running, _ = held.next_batch()
                assert len(running) <= limits.max_batch
            case "finish" if running is not None:
                held.complete(running, judged(running), 1.0)
                running = None
            case "pause" if running is not None:
                held.complete(running, [None] * len(running), 1.0)
                running = None
            case "fail" if running is not None:
                for task in running:
                    held.abandon(task, "no")
                running = None
            case "fail together" if running:
                held.fail(running, Failure("no"))
                running = None
            case (device, session, message):
                held.receive(key(session, f"d{device}"), message)
            case str():
                pass  # not now
        forgotten += held.take_forgotten()
        assert held.num_sessions <= limits.max_sessions
        assert held.num_waiting <= limits.max_sessions + limits.max_batch
    if running is not None:
        held.complete(running, judged(running), 1.0)
    run(held, max_steps=500)


def test_a_draft_of_an_evicted_session_is_not_left_without_an_answer() -> None:
    crowded = scheduler(max_sessions_per_device=1)
    crowded.receive(key(1), first_draft(7))
    answers = crowded.receive(key(2), first_draft())
    (answer,) = answers
    refusal = expect(Refusal, answer.message)
    assert (answer.key, refusal.n, refusal.reason) == (key(1), 7, Reason.BUSY)
