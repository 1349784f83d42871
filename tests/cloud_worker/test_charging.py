"""What a device costs is charged to it whatever it is made of, and others hardly notice it."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.fuzz.messages import GARBAGE
from cloud_worker.intake import LINK_SECONDS, Intake
from cloud_worker.monitoring.tally import ErrorKind, WorkerTally
from cloud_worker.passes.forward_pass import Pass
from cloud_worker.scheduling.allowances import ACTIVE_SECONDS, MAX_DEBT, Allowances
from cloud_worker.scheduling.batch import Batch
from cloud_worker.scheduling.costs import LONG_SECONDS, PROTECTED_SECONDS, CostKind, Costs, Work
from cloud_worker.scheduling.device_rates import DeviceRates
from cloud_worker.scheduling.limits import Limits
from cloud_worker.scheduling.prices import Prices
from cloud_worker.scheduling.scheduler import MAX_ANSWERS, Scheduler, SessionKey, Task
from cloud_worker.scheduling.turns import num_positions
from cloud_worker.scheduling.virtual_clock import VirtualClock
from cloud_worker.session.job import Job
from cloud_worker.session.judging import judge
from cloud_worker.session.session import MAX_REFUSED, CloudSession, Target
from common.link import Received
from common.protocol.codec import encode
from common.protocol.messages import Correction, Draft, DraftToken, Reason, Refusal
from common.protocol.topics import Topics
from common.sampling.distribution import Lattice
from tests.support.fakes import TOKENIZER, VOCAB_SIZE, FakeModel, opening
from tests.support.narrowing import expect
from tests.support.neighbourhood import GOOD, KINDS, Machine, Neighbourhood

TARGET = Target("w0", TOKENIZER, VOCAB_SIZE, max_tokens=512)
MODEL = FakeModel(0)

# -- the virtual clock ---------------------------------------------------------------------------------


def serve(clock: VirtualClock, waiting: Sequence[str]) -> str:
    """The device that comes first."""
    first = min(waiting, key=clock.start)
    clock.go_to(clock.start(first))
    return first


@given(st.lists(st.floats(1e-4, 1.0), min_size=2, max_size=6), st.integers(50, 300))
def test_devices_that_always_wait_get_equal_time_however_long_their_tasks_are(
    costs: list[float], num_turns: int
) -> None:
    clock, cost_of = VirtualClock(), {f"d{number}": cost for number, cost in enumerate(costs)}
    served = dict.fromkeys(cost_of, 0.0)
    for _ in range(num_turns):
        device = serve(clock, list(cost_of))
        clock.charge(device, cost_of[device])
        served[device] += cost_of[device]
        assert max(served.values()) - min(served.values()) <= max(costs) + 1e-9


def test_a_device_that_was_idle_has_saved_nothing_up() -> None:
    clock = VirtualClock()
    for _ in range(1000):
        clock.charge(serve(clock, ["busy"]), 1.0)
    order = []
    for _ in range(10):
        order.append(device := serve(clock, ["busy", "idle"]))
        clock.charge(device, 1.0)
    assert order.count("idle") in (5, 6)


def test_no_device_waits_for_ever_beside_cheap_ones_that_keep_arriving() -> None:
    clock = VirtualClock()
    clock.charge("dear", 5.0)
    for number in range(10_000):
        device = serve(clock, ["dear", f"new{number}", "steady"])
        if device == "dear":
            return
        clock.charge(device, 0.01)
    raise AssertionError("it waits for ever")


def test_the_clock_remembers_a_bounded_number_of_devices() -> None:
    clock = VirtualClock(max_devices=3)
    for number in range(100):
        clock.charge(f"d{number}", 1.0)
    assert len(clock) == 3
    assert clock.start("d0") == 0.0


# -- allowances ----------------------------------------------------------------------------------------


def test_a_device_owes_what_it_uses_beyond_its_share_of_the_time() -> None:
    allowances = Allowances(0.5)
    for number in range(100):
        allowances.charge("heavy", 0.0, number / 100)
        allowances.charge("light", 0.0, number / 100)
        allowances.charge("heavy", 0.004, number / 100)
        allowances.charge("light", 0.002, number / 100)
    assert 0.14 < allowances.debt("heavy") < 0.17  # 0.4 s used, a quarter of a second allowed
    assert allowances.debt("light") < 0.003


def test_silence_saves_nothing_up_and_is_no_debt_for_ever() -> None:
    allowances = Allowances(0.5)
    allowances.hear("a", 0.0)
    allowances.hear("a", ACTIVE_SECONDS)
    allowances.charge("a", 0.1, ACTIVE_SECONDS)
    assert allowances.debt("a") == pytest.approx(0.1)
    allowances.charge("a", 1e9, ACTIVE_SECONDS)
    assert allowances.debt("a") == pytest.approx(MAX_DEBT)
    allowances.hear("b", 3 * ACTIVE_SECONDS)
    assert allowances.debt("a") == 0.0


def test_only_devices_heard_lately_share_and_the_table_is_bounded() -> None:
    allowances = Allowances(1.0, max_devices=5)
    for number in range(50):
        allowances.hear(f"d{number}", 0.0)
        assert allowances.num_active <= 5
    allowances.hear("later", 2 * ACTIVE_SECONDS)
    assert allowances.num_active == 1


def test_a_clock_that_goes_back_gives_nothing() -> None:
    allowances = Allowances(1.0)
    allowances.charge("a", 0.2, 10.0)
    allowances.hear("a", 5.0)
    allowances.hear("a", 9.0)
    assert allowances.debt("a") == pytest.approx(0.2)


# -- prices --------------------------------------------------------------------------------------------


def test_the_price_of_a_position_and_of_a_pass_are_learned_from_passes_of_several_sizes() -> None:
    prices = Prices()
    for count in [4, 40, 8, 300, 5] * 20:
        prices.observe_pass(count, 0.002 + 0.0001 * count)
    assert prices.position == pytest.approx(0.0001)
    assert prices.fixed == pytest.approx(0.002)


def test_passes_of_one_size_say_nothing_about_others_so_half_of_their_time_is_by_position() -> None:
    prices = Prices()
    assert (prices.position, prices.fixed, prices.row("a")) == (0.0, 0.0, 0.0)
    for _ in range(20):
        prices.observe_pass(4, 0.008)
    assert prices.position == pytest.approx(0.001)
    assert prices.fixed == pytest.approx(0.004)


def test_times_that_vary_are_averaged_over_many_passes() -> None:
    prices = Prices()
    for number in range(200):
        count = (4, 40, 8)[number % 3]
        prices.observe_pass(count, (0.002 + 0.0001 * count) * (0.5 if number % 2 else 1.5))
    assert prices.position == pytest.approx(0.0001, rel=0.2)
    assert prices.fixed == pytest.approx(0.002, rel=0.2)


def test_a_dear_row_is_believed_at_once_and_cheap_ones_only_after_a_while() -> None:
    prices = Prices(max_devices=2)
    prices.observe_rows("a", 10, 0.001)
    prices.observe_rows("a", 1, 0.01)
    assert prices.row("a") == pytest.approx(0.01)
    prices.observe_rows("a", 10, 0.001)
    assert prices.row("a") > 0.005
    for name in "bcd":
        prices.observe_rows(name, 1, 0.001)
    assert prices.row("a") < 0.005  # forgotten: the mean of all
    prices.observe_rows("a", 0, 0.001)


# -- charges -------------------------------------------------------------------------------------------


def beside_good(costs: Costs, now: float) -> None:
    """A light device is heard."""
    costs.hear(GOOD, now)
    costs.charge(GOOD, CostKind.READING, 1e-4, now)


@pytest.mark.parametrize("kind", CostKind)
def test_a_device_is_heavy_whatever_its_cost_is_made_of(kind: CostKind) -> None:
    costs = Costs()
    for number in range(100):
        beside_good(costs, number / 100)
        costs.charge("hostile", kind, 0.006, number / 100)
    assert not costs.is_light("hostile")
    assert costs.is_light(GOOD)
    assert costs.protects(1.0)
    assert costs.clock.start("hostile") > costs.clock.start(GOOD)
    assert costs.seconds[kind] >= 0.6


def test_a_pass_is_charged_by_positions_and_judging_to_whose_it_was() -> None:
    costs = Costs()
    costs.charge_pass([Work("a", 30, 30, 0.02), Work("b", 10, 1, 0.001)], 0.04, 0.0)
    assert costs.seconds[CostKind.JUDGING] == pytest.approx(0.021)
    assert costs.clock.start("a") > 2 * costs.clock.start("b") > 0.0


def test_a_device_that_waits_for_its_answers_is_light_with_more_work_than_one_that_does_not() -> None:
    costs = Costs()
    for number in range(100):
        now = number / 100
        costs.charge_pass([Work("patient", 4, 4, 0.003, is_single=True)], 0.001, now)
        costs.charge_pass([Work("hasty", 4, 4, 0.006)], 0.001, now)
    assert not costs.is_light("hasty")
    assert costs.is_light("patient")
    costs.charge_pass([Work("patient", 4, 4, 1.0, is_single=True)], 0.001, 1.0)
    assert not costs.is_light("patient")


def test_a_device_is_single_while_no_other_session_of_it_works_or_waits() -> None:
    held = Scheduler(TARGET, Limits(max_batch=3))
    for device, session in (("one", "s"), ("two", "s"), ("two", "t"), ("three", "s"), ("three", "t")):
        held.receive(SessionKey(device, session), draft(0))
    tasks, _ = held.next_batch()
    assert [task.key.device for task in tasks] == ["one", "two", "three"]
    assert held.are_single(tasks) == [True, False, False]


def test_a_device_alone_is_never_held_back() -> None:
    costs = Costs()
    for number in range(1000):
        costs.hear("alone", number / 100)
        costs.charge("alone", CostKind.FORWARD, 0.37, number / 100)
        costs.charge("alone", CostKind.READING, 0.05, number / 100)
    assert not costs.protects(10.0)
    assert not costs.sheds("alone", 10.0)


def test_a_light_device_alone_is_not_protected_from_itself() -> None:
    costs = Costs()
    costs.hear("alone", 0.0)
    assert costs.is_light("alone")
    assert not costs.protects(0.1)
    costs.hear("other", 0.1)
    assert costs.protects(0.1)


def test_a_device_beyond_its_share_of_an_event_loop_that_has_time_is_not_shed() -> None:
    costs = Costs()
    for number in range(1000):
        now = number / 1000
        costs.charge("eager", CostKind.READING, 0.00018, now)
        beside_good(costs, now) if number % 20 == 0 else None
    assert not costs.sheds("eager", 1.0)


def test_passes_that_take_long_leave_the_event_loop_free() -> None:
    costs = Costs()
    for number in range(100):
        costs.charge("slow", CostKind.FORWARD, 0.009, number / 100)
        beside_good(costs, number / 100)
    assert not costs.is_light("slow")
    assert not costs.sheds("slow", 1.0)


def test_messages_are_shed_only_of_who_keeps_the_event_loop_busy() -> None:
    costs = Costs()
    for number in range(1000):
        now = number / 1000
        costs.charge("flood", CostKind.READING, 0.0009, now)
        beside_good(costs, now)
    assert costs.sheds("flood", 1.0)
    assert not costs.sheds(GOOD, 1.0)
    assert not costs.sheds("unknown", 1.0)


def test_a_slow_processor_makes_the_event_loop_busy_with_fewer_messages() -> None:
    costs = Costs()
    for number in range(1000):
        now = number / 1000
        costs.observe_loop(1e-4, 1e-3)
        costs.charge("flood", CostKind.READING, 0.0002, now)
        beside_good(costs, now) if number % 20 == 0 else None
    assert costs.sheds("flood", 1.0)
    assert not costs.sheds(GOOD, 1.0)


def test_few_messages_that_take_long_are_shed_though_the_event_loop_has_time() -> None:
    costs = Costs()
    for number in range(100):
        now = number / 20
        costs.charge("slow", CostKind.READING, 10 * LONG_SECONDS if number % 10 == 0 else 0.0, now)
        beside_good(costs, now)
    assert costs.sheds("slow", 5.0)
    assert not costs.sheds(GOOD, 5.0)


def test_a_device_that_sends_nothing_but_is_served_stays_charged() -> None:
    costs = Costs()
    for number in range(int(100 * 2 * ACTIVE_SECONDS)):
        now = number / 100
        beside_good(costs, now)
        costs.charge("stream", CostKind.FORWARD, 0.006, now)
    assert not costs.is_light("stream")


# -- intake --------------------------------------------------------------------------------------------


def test_a_message_that_is_shed_is_not_read_but_charged_and_answered_once_per_second() -> None:
    costs, tally = Costs(), WorkerTally()
    scheduler = Scheduler(TARGET, Limits(), costs)
    intake = Intake(TARGET, Topics(), DeviceRates(200.0), scheduler, tally, costs)
    for number in range(1000):
        costs.charge("flood", CostKind.PLANNING, 0.0009, number / 1000)
        beside_good(costs, number / 1000)
    before = costs.seconds[CostKind.READING]
    payload = encode(draft(0))
    answers = [
        answer
        for number in range(100)
        for answer in intake.receive(received("flood", payload), 1.0 + number / 1000)
    ]
    assert [expect(Refusal, answer.message).reason for answer in answers] == [Reason.BUSY]
    assert tally.num_errors[ErrorKind.RATE] == 100
    assert costs.seconds[CostKind.READING] > before + 100 * LINK_SECONDS
    assert scheduler.num_sessions == 0
    assert intake.receive(received(GOOD, payload), 1.2) == []
    assert scheduler.num_sessions == 1


@pytest.mark.parametrize("payload", [b"", b"\xff", GARBAGE[8], encode(Draft(3, 0, 9, (), (), 1, check=1))])
def test_what_leads_to_no_pass_is_charged_too(payload: bytes) -> None:
    costs = Costs()
    scheduler = Scheduler(TARGET, Limits(), costs)
    Intake(TARGET, Topics(), DeviceRates(200.0), scheduler, WorkerTally(), costs).receive(
        received("a", payload), 1.0
    )
    assert costs.clock.start("a") > LINK_SECONDS


def received(device: str, payload: bytes) -> Received:
    return Received(Topics().draft("demo", "w0", device, "s"), payload)


# -- batches -------------------------------------------------------------------------------------------


def draft(n: int, num_context: int = 3, num_block: int = 1, **fields: int) -> Draft:
    block = tuple(DraftToken(4, Lattice(np.array([4]), np.array([256]))) for _ in range(num_block))
    return Draft(n, 0, 0, (1, 2, 3, 5) * (num_context // 4) + (1,), block, opening=opening(7), **fields)


def pressed() -> tuple[Scheduler, Costs]:
    """A scheduler whose worker knows one heavy device and one light one."""
    costs = Costs()
    for number in range(100):
        now = number / 100
        beside_good(costs, now)
        costs.charge_pass([Work(GOOD, 4 + number % 3, 4, 4e-5)], 0.001 + 1e-4 * (number % 3), now)
        costs.charge("hostile", CostKind.FORWARD, 0.008, now)
    return Scheduler(TARGET, Limits(max_batch=4), costs), costs


def test_the_light_device_is_served_first_though_the_heavy_one_came_earlier() -> None:
    held, _ = pressed()
    for number in range(3):
        held.receive(SessionKey("hostile", f"s{number}"), draft(0, 200, num_context_probs=100), 1.0)
    held.receive(SessionKey(GOOD, "s"), draft(0), 1.0)
    tasks, _ = held.next_batch(1.0)
    assert tasks[0].key.device == GOOD
    rooms = held.rooms(tasks)
    assert all(room is not None and room < 100 for room in rooms[1:])


def test_the_heavy_device_is_served_in_pieces_while_the_light_one_is_active_and_whole_after_that() -> None:
    held, _ = pressed()
    held.receive(SessionKey("hostile", "s"), draft(0, 200), 1.0)
    (task,), _ = held.next_batch(1.0)
    (room,) = held.rooms([task])
    assert room is not None
    assert 1 <= room < 100
    held.complete([task], [None], 1.0)
    (again,), _ = held.next_batch(2 + PROTECTED_SECONDS)
    assert again is task
    assert held.rooms([task]) == [len(task.job.tokens)]


def test_a_short_draft_joins_the_pass_however_many_long_prompts_of_light_devices_come_before_it() -> None:
    _, costs = pressed()
    held = Scheduler(TARGET, Limits(max_batch=8), costs)
    for number in range(6):
        held.receive(SessionKey(f"new{number}", "s"), draft(0, 400), 1.0)
    held.receive(SessionKey(GOOD, "s"), draft(0), 1.0)
    tasks, _ = held.next_batch(1.0)
    rooms = dict(zip((task.key.device for task in tasks), held.rooms(tasks), strict=True))
    short = next(task for task in tasks if task.key.device == GOOD)
    assert (rooms[GOOD] or 0) >= len(short.job.tokens)
    assert all(rooms[f"new{number}"] for number in range(6))
    assert sum(rooms[f"new{number}"] or 0 for number in range(6)) < 400


def test_a_job_may_need_all_positions_that_its_drafts_bring_and_no_others() -> None:
    first, later = draft(0, 8), Draft(1, 0, 6, (1, 2), (), 1, check=9)
    one = opening(7)
    assert num_positions(Job(one, (), (1, 2, 3), 1)) == 1
    assert num_positions(Job(one, (first,), tuple(range(9)), 2)) == 9
    assert num_positions(Job(one, (later,), tuple(range(8)), 1)) == 3
    assert num_positions(Job(one, (later,), tuple(range(8)), 7)) == 7


def test_without_charges_every_task_runs_whole() -> None:
    held = Scheduler(TARGET, Limits())
    for number in range(5):
        held.receive(SessionKey(f"d{number}", "s"), draft(0, 200), 1.0)
    tasks, _ = held.next_batch(1.0)
    assert held.rooms(tasks) == [None] * 5


def test_many_wrong_drafts_hold_up_a_batch_no_longer_than_a_few() -> None:
    held = Scheduler(TARGET, Limits())
    keys = [SessionKey(f"d{number}", "s") for number in range(6)]
    for key in keys:
        held.receive(key, draft(0, num_block=0, bonus=1))
        for n in range(1, 40):
            held.receive(key, Draft(n, 0, 9, (1,), (), 1, check=n))
    num_refused = num_batches = 0
    while held.num_waiting:
        tasks, answers = held.next_batch()
        assert len(answers) < MAX_ANSWERS + MAX_REFUSED
        held.complete(
            tasks, [judge(one.job, MODEL.rows(one.job.tokens, one.job.num_rows)) for one in tasks], 1
        )
        num_refused += sum(
            expect(Refusal, answer.message).reason is Reason.NEED_CONTEXT for answer in answers
        )
        num_batches += 1
    assert num_refused == 6 * 39
    assert num_batches >= 6 * 39 / (MAX_ANSWERS + MAX_REFUSED)


@settings(max_examples=60)
@given(
    st.integers(1, 40),
    st.integers(0, 6),
    st.integers(0, 30),
    st.integers(0, 1),
    st.lists(st.integers(1, 9), min_size=1, max_size=8),
)
def test_a_draft_judged_in_pieces_gets_the_verdict_that_it_gets_at_once(
    num_context: int, num_block: int, num_probs: int, bonus: int, rooms: list[int]
) -> None:
    context = tuple(np.random.default_rng(num_context).integers(0, VOCAB_SIZE, num_context).tolist())
    block = tuple(DraftToken(number % VOCAB_SIZE) for number in range(num_block))
    probs = min(num_probs, num_context - 1)
    one = Draft(0, 0, 0, context, block, bonus, probs, opening=opening(3))
    session = CloudSession(TARGET)
    session.receive(one)
    job, _ = session.next_job()
    if job is None:
        return
    expected = judge(job, MODEL.rows(job.tokens, job.num_rows))
    assert in_pieces(Task(SessionKey("a", "s"), session, job), rooms) == expected


def in_pieces(task: Task, rooms: Sequence[int]) -> Sequence[object]:
    """The verdicts when each pass has only so much room."""
    held = 0

    def num_missing(one: Pass) -> int:
        return len(one.tokens) - one.start(min(held, len(one.tokens)))

    for turn in range(1000):
        batch = Batch.of([task], num_missing, 256, [rooms[turn % len(rooms)]])
        (one,) = batch.passes
        assert 1 <= batch.num_positions[0] <= rooms[turn % len(rooms)]
        (outcome,) = batch.judged([rows_of(task.job, one)])
        held = len(one.tokens)
        if outcome is not None:
            assert isinstance(outcome, Sequence)
            return outcome
    raise AssertionError("it does not come to an end")


def rows_of(job: Job, one: Pass) -> np.ndarray:
    assert tuple(one.tokens) == job.tokens[: len(one.tokens)]
    if not one.num_rows:
        return np.zeros((0, VOCAB_SIZE), np.float32)
    return MODEL.rows(one.tokens, one.num_rows)


def test_a_device_whose_messages_are_dropped_stays_heavy() -> None:
    costs = Costs()
    for device in ("good", "bad"):
        costs.hear(device, 0.0)
    for number in range(200):
        costs.charge_pass([Work("good", 4, 4, 1e-4, is_single=True)], 5e-3, now := 0.01 * number)
        costs.charge("bad", CostKind.READING, 1e-4, now)
        costs.charge_unserved("bad", now)
    assert costs.is_light("good")
    assert costs.is_light("bad") is False
    assert costs.seconds[CostKind.READING] == pytest.approx(200 * 1e-4)  # what was not spent is in no metric


# -- the whole, in virtual time ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def alone() -> Neighbourhood:
    return Neighbourhood().run(2.0)


@pytest.mark.parametrize("kind", KINDS)
def test_ten_accounts_at_their_allowed_rate_leave_the_p99_of_another_within_three_times_its_own(
    kind: str, alone: Neighbourhood
) -> None:
    beside = Neighbourhood(KINDS[kind], 10).run(1.5)
    assert beside.num_refused == 0
    assert GOOD not in beside.num_shed
    assert beside.p99 <= 3 * alone.p99
    if not KINDS[kind].is_garbage:
        assert min(beside.num_served.get(f"d{number}", 0) for number in range(10)) > 0


def test_fifty_leave_it_served(alone: Neighbourhood) -> None:
    beside = Neighbourhood(KINDS["small"], 50).run(2.0)
    assert beside.num_refused == 0
    assert len(beside.latencies) > 20
    assert beside.p50 <= 3 * alone.p50


def test_the_worst_rows_of_a_large_vocabulary_are_soon_known_and_then_change_little() -> None:
    machine = Machine(fixed=5e-3, position=1e-3, row=2.5e-3)
    alone = Neighbourhood(machine=machine, think=0.1).run(3.0)
    beside = Neighbourhood(KINDS["worst"], 10, machine=machine, think=0.1).run(3.0)
    assert len(beside.latencies) > 20
    assert beside.p99 <= 3 * alone.p50


def test_without_charges_the_same_accounts_would_be_noticed(alone: Neighbourhood) -> None:
    class Free(Costs):
        def charge(
            self, device: str, kind: CostKind, seconds: float, now: float, *, is_single: bool = False
        ) -> None:
            """Nothing."""

    beside = Neighbourhood(KINDS["worst"], 10, costs=Free()).run(2.0)
    assert not beside.latencies or beside.p99 > 5 * alone.p99


def test_devices_that_all_work_without_a_pause_still_share_passes() -> None:
    held, costs = Scheduler(TARGET, Limits(), busy := Costs()), busy
    keys = [SessionKey(f"d{number}", "s") for number in range(16)]
    now, sizes = 0.0, []
    for n in range(200):
        for key in keys:
            costs.hear(key.device, now)
            held.receive(key, draft(n), now)
        tasks, _ = held.next_batch(now)
        sizes.append(len(tasks))
        now += (seconds := 0.002 + 0.0005 * len(tasks))
        costs.charge_pass([Work(task.key.device, 4, 4, 1e-4) for task in tasks], seconds, now)
        answers = held.complete(
            tasks, [judge(one.job, MODEL.rows(one.job.tokens, one.job.num_rows)) for one in tasks], 1
        )
        assert all(isinstance(answer.message, Correction) for answer in answers)
    assert np.mean(sizes[100:]) > 15
