"""After a failed forward pass: only the draft that fails alone is refused, and no other session notices."""

from collections.abc import Callable, Sequence

import pytest

from cloud_worker.scheduling.fair_queue import SessionKey
from cloud_worker.scheduling.limits import Limits
from cloud_worker.scheduling.retries import PASS_ERRORS, Abandoned, Failure, Retries
from cloud_worker.scheduling.scheduler import Scheduler
from cloud_worker.scheduling.task import Answer, Task
from cloud_worker.session.job import Job
from cloud_worker.session.judging import Judged, judge
from cloud_worker.session.session import CloudSession, Target
from common.protocol.messages import Close, Correction, Draft, DraftToken, Reason, Refusal, ToDevice
from tests.support.fakes import TOKENIZER, VOCAB_SIZE, FakeModel, opening

MODEL = FakeModel(0)
TARGET = Target("w0", TOKENIZER, VOCAB_SIZE, max_tokens=64)
NO_MEMORY = Failure("out of memory")
NO_SUCH_TOKEN = Failure("no such token", is_permanent=True)

Fails = Callable[[Sequence[Task]], Failure | None]


def task(number: int) -> Task:
    job = Job(opening(1), (Draft(0, 0, 0, (number,), (DraftToken(4),), opening=opening(1)),), (number, 4), 1)
    return Task(SessionKey(f"device{number}", "s"), CloudSession(TARGET), job)


def batch(size: int) -> list[Task]:
    return [task(number) for number in range(size)]


def fails_with(failure: Failure, *bad: Task) -> Fails:
    """A model that fails on every batch with one of these tasks in it."""
    return lambda tasks: failure if any(one in bad for one in tasks) else None


def settle(tasks: Sequence[Task], fails: Fails) -> tuple[list[Sequence[Task]], list[Task], list[Abandoned]]:
    """Run a batch and whatever runs again: all batches run, the tasks that succeeded, those abandoned."""
    retries, batches, done, abandoned = Retries(), [tasks], list[Task](), list[Abandoned]()
    current = tasks
    while True:
        failure = fails(current)
        if failure is None:
            done += current
        elif (given_up := retries.add(current, failure)) is not None:
            abandoned.append(given_up)
        if not retries:
            return batches, done, abandoned
        current = retries.take()
        batches.append(current)


# -- which batches run, and which task is given up -----------------------------------------------------


@pytest.mark.parametrize("size", [1, 2, 3, 7, 32])
def test_one_bad_task_is_the_only_one_abandoned_wherever_it_is(size: int) -> None:
    for position in range(size):
        tasks = batch(size)
        bad = tasks[position]
        _, done, abandoned = settle(tasks, fails_with(NO_MEMORY, bad))
        assert [one.task for one in abandoned] == [bad]
        assert done == [one for one in tasks if one is not bad]


def test_several_bad_tasks_are_found_one_by_one() -> None:
    tasks = batch(8)
    bad = [tasks[1], tasks[6], tasks[7]]
    _, done, abandoned = settle(tasks, fails_with(NO_MEMORY, *bad))
    assert [one.task for one in abandoned] == bad
    assert len(done) == 5


@pytest.mark.parametrize("size", [1, 2, 3, 7, 32])
def test_a_batch_takes_at_most_two_passes_per_task(size: int) -> None:
    tasks = batch(size)
    batches, done, abandoned = settle(tasks, fails_with(NO_MEMORY, *tasks))
    assert len(batches) == 2 * size - 1
    assert (done, [one.task for one in abandoned]) == ([], tasks)


def test_one_bad_task_of_32_is_found_in_eleven_passes() -> None:
    tasks = batch(32)
    batches, _, _ = settle(tasks, fails_with(NO_MEMORY, tasks[20]))
    assert len(batches) == 11  # the whole, and two halves at each of five levels


def test_a_failure_that_does_not_repeat_abandons_no_task() -> None:
    failures = iter([NO_MEMORY])
    tasks = batch(5)
    batches, done, abandoned = settle(tasks, lambda _tasks: next(failures, None))
    assert abandoned == []
    assert done == tasks
    assert batches == [tasks, tasks[:2], tasks[2:]]


# -- whose fault it is ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "is_its_fault"),
    [
        (ValueError("a token id is outside of the model"), True),
        (RuntimeError("CUDA out of memory"), False),
        (MemoryError(), False),
    ],
)
def test_only_a_token_that_the_model_does_not_have_is_the_fault_of_a_draft(
    error: Exception, is_its_fault: bool
) -> None:
    assert isinstance(error, PASS_ERRORS)
    bad = task(0)
    abandoned = Retries().add([bad], Failure.of(error))
    assert abandoned == Abandoned(bad, "the worker's model fails on this draft", is_its_fault)


def test_the_fault_is_that_of_the_pass_with_the_task_alone() -> None:
    tasks = batch(2)
    retries = Retries()
    assert retries.add(tasks, NO_SUCH_TOKEN) is None
    found = [retries.add(retries.take(), NO_MEMORY) for _ in tasks]
    assert [one.is_its_fault for one in found if one is not None] == [False, False]


def test_the_detail_of_a_failure_is_one_line() -> None:
    assert (
        Failure.of(RuntimeError("out of memory\nCUDA kernel errors might be ...")).detail == "out of memory"
    )


# -- in the scheduler ----------------------------------------------------------------------------------

POISON = 11


def key(number: int) -> SessionKey:
    return SessionKey(f"device{number}", "s")


def scheduler(contexts: Sequence[int]) -> Scheduler:
    """A scheduler with one session per context token, each with one draft."""
    held = Scheduler(TARGET, Limits())
    for number, token in enumerate(contexts):
        draft = Draft(0, 0, 0, (1, token), (DraftToken(4),), opening=opening(number))
        assert held.receive(key(number), draft) == []
    return held


def judged(tasks: Sequence[Task]) -> list[list[Judged]]:
    return [judge(one.job, MODEL.rows(one.job.tokens, one.job.num_rows)) for one in tasks]


def turn(held: Scheduler, failure: Failure | None) -> list[Answer]:
    """One turn of a worker's loop, with a model that fails where POISON is in the context."""
    tasks, answers = held.next_batch()
    if failure is not None and any(POISON in one.job.tokens for one in tasks):
        return answers + held.fail(tasks, failure)
    return answers + held.complete(tasks, judged(tasks), 1.0)


def answers_of(contexts: Sequence[int], failure: Failure | None) -> dict[SessionKey, ToDevice]:
    held = scheduler(contexts)
    answers: list[Answer] = []
    while held.num_waiting:
        answers += turn(held, failure)
    assert len(answers) == len(contexts)
    return dict(answers)


@pytest.mark.parametrize("failure", [NO_MEMORY, NO_SUCH_TOKEN])
def test_the_answers_of_other_sessions_are_the_same_as_without_the_failure(failure: Failure) -> None:
    contexts = [2, 3, POISON, 5, 6]
    with_failure, without = answers_of(contexts, failure), answers_of(contexts, None)
    refused = with_failure.pop(key(2))
    assert isinstance(refused, Refusal)
    assert refused.reason is (Reason.BAD_REQUEST if failure.is_permanent else Reason.BUSY)
    assert isinstance(without.pop(key(2)), Correction)
    assert with_failure == without


def test_parts_of_a_failed_batch_run_before_sessions_that_came_later() -> None:
    held = scheduler([2, 3, 5])
    tasks, _ = held.next_batch()
    assert held.fail(tasks, NO_MEMORY) == []
    held.receive(key(9), Draft(0, 0, 0, (1,), (DraftToken(4),), opening=opening(9)))
    assert held.num_waiting == 4
    order = [[one.key for one in held.next_batch()[0]] for _ in range(3)]
    assert order == [[key(0)], [key(1), key(2)], [key(9)]]


def test_a_session_that_is_closed_after_the_failure_does_not_run_again() -> None:
    held = scheduler([2, 3])
    tasks, _ = held.next_batch()
    held.fail(tasks, NO_MEMORY)
    held.receive(key(0), Close())
    batches = [held.next_batch()[0] for _ in range(2)]
    assert [[one.key for one in tasks] for tasks in batches] == [[], [key(1)]]
    assert held.num_waiting == 0


def test_a_session_beside_one_that_is_closed_during_the_failed_pass_runs_again() -> None:
    held = scheduler([2, 3])
    tasks, _ = held.next_batch()
    held.receive(key(0), Close())
    assert held.fail(tasks, NO_SUCH_TOKEN) == []
    answers = [answer for _ in range(2) for answer in turn(held, None)]
    assert [answer.key for answer in answers] == [key(1)]
    assert isinstance(answers[0].message, Correction)
