"""A fleet's queue is the scheduler's, its waits are queueing theory's, a slice of it is like the whole."""

import argparse
import json
import math
import random
from collections.abc import Generator
from dataclasses import replace

import numpy as np
import pytest
import simpy

from cloud_worker.scheduling.scheduler import Limits, Scheduler, SessionKey
from cloud_worker.session.judging import judge
from cloud_worker.session.session import Target
from common.protocol.messages import Draft, DraftToken, Opening
from common.sampling.distribution import Sampling
from evaluation.__main__ import main
from evaluation.fleet.command import INPUTS, add_flags, command_line
from evaluation.fleet.inputs import BrokerTime, LoopTime, PassTime, load_inputs
from evaluation.fleet.sizing import enough_workers
from evaluation.fleet.summary import first_to_break
from evaluation.fleet.traces import SchemeTraces, Trace
from evaluation.fleet.world.arrivals import Arrivals
from evaluation.fleet.world.broker import Broker
from evaluation.fleet.world.pool import Gauge, Pool
from evaluation.fleet.world.session import DeviceTime, Session
from evaluation.fleet.world.simulation import Effort, Load, Outcome, Site, simulate
from evaluation.fleet.world.worker import Uplink, Verdict, Worker, WorkerTime

VOCAB_SIZE = 16
OPENING = Opening(b"same", VOCAB_SIZE, Sampling(temperature=0.0), 1)
INSTANT = BrokerTime(0.0, 0.0, (0.0,), 0.0, "none")
PASS = PassTime(0.05, 0.0, 0.0, "given")
NO_LOOP = LoopTime(0.0, 0.0, 0.0, 0.0, "none")
TIME = WorkerTime(PASS, NO_LOOP)


def worker_of(env: simpy.Environment, limits: Limits | None = None, time: WorkerTime = TIME) -> Worker:
    return Worker(env, 0, time, limits or Limits(), random.Random(1))


def scheme(*steps: str, window: int = 1, drafts: bool = True) -> SchemeTraces:
    return SchemeTraces(window, drafts, 70.0, 30.0, 2.0, 10.0, 30.0, tuple(Trace(8, each) for each in steps))


def light(**settings: float) -> Effort:
    return Effort(seed=3, warm_up=2.0, least_seconds=10.0, num_answers=int(settings.get("num_answers", 4000)))


class Ear:
    """A session that only listens."""

    def __init__(self, name: str) -> None:
        self.key = SessionKey(name, name)
        self.heard: list[tuple[int, object]] = []

    def answer(self, worker: Worker, n: int, verdict: Verdict, compute: float) -> None:  # noqa: ARG002
        self.heard.append((n, verdict))


def test_the_same_drafts_make_the_same_batches_as_the_real_scheduler() -> None:
    rng = random.Random(5)
    limits = Limits(max_batch=3, max_queue=4, max_sessions=6)
    real = Scheduler(Target("w", b"same", VOCAB_SIZE, 10_000), limits)
    model = worker_of(simpy.Environment(), limits)
    ears, sent = [Ear(f"s{number}") for number in range(9)], dict.fromkeys(range(9), 0)
    refused_by_real = 0
    for _ in range(400):
        for number in rng.choices(range(9), k=rng.randrange(8)):
            key, n = ears[number].key, sent[number]
            draft = Draft(n, 0, 0, (1, 2), (DraftToken(0),), opening=OPENING)
            answers = real.receive(key, draft)
            refused_by_real += len(answers)
            model.receive(ears[number], Uplink(n, 0, 3, opens=True))
            sent[number] += 1
        tasks, late = real.next_batch()
        refused_by_real += len(late)
        jobs = model.next_batch()
        assert [task.key for task in tasks] == [asker.key for asker, _, _ in jobs]
        row = np.eye(VOCAB_SIZE, dtype=np.float32)[0]
        real.complete(tasks, [judge(task.job, np.tile(row, (task.job.num_rows, 1))) for task in tasks], 1.0)
        model.complete(jobs, 0.05)
    refused = sum(verdict is Verdict.BUSY for ear in ears for _, verdict in ear.heard)
    assert refused == refused_by_real > 50


def test_drafts_that_follow_one_another_are_one_job_and_fall_together() -> None:
    model, ear = worker_of(simpy.Environment()), Ear("s")
    for n, rejects in enumerate((False, True, False)):
        model.receive(ear, Uplink(n, 0, 4, rejects, opens=n == 0))
    (job,) = jobs = model.next_batch()
    assert [uplink.n for uplink in job[2]] == [0, 1, 2]
    model.complete(jobs, 0.05)
    assert ear.heard == [(0, Verdict.CORRECTION), (1, Verdict.CORRECTION)]
    model.receive(ear, Uplink(3, 0, 4))  # sent before the device knew of the rejection
    assert model.next_batch() == []
    model.receive(ear, Uplink(4, 1, 4))
    assert [uplink.n for uplink in model.next_batch()[0][2]] == [4]


class Clock(Ear):
    """Notes when it heard something."""

    def __init__(self, name: str, env: simpy.Environment) -> None:
        super().__init__(name)
        self.env = env

    def answer(self, worker: Worker, n: int, verdict: Verdict, compute: float) -> None:  # noqa: ARG002
        self.heard.append((n, pytest.approx(self.env.now)))


@pytest.mark.parametrize(("leaves_core", "first_at", "second_at"), [(True, 57, 112), (False, 62, 120)])
def test_drafts_are_read_while_a_pass_runs_and_answered_between_two(
    leaves_core: bool, first_at: int, second_at: int
) -> None:
    env = simpy.Environment()
    loop = LoopTime(reading=0.002, reading_a_pass=0.003, answering=0.004, answering_a_pass=0.001, source="")
    worker = worker_of(env, time=WorkerTime(replace(PASS, leaves_core=leaves_core), loop))
    first, second = Clock("a", env), Clock("b", env)
    env.process(worker.run())
    worker.receive(first, Uplink(0, 0, 1, opens=True))
    env.run(until=0.01)
    worker.receive(second, Uplink(0, 0, 1, opens=True))
    env.run(until=1.0)
    # 2 ms to read, 50 for the pass, 5 to answer; on one core 3 of the pass and 2 of the second draft beside
    assert (first.heard, second.heard) == ([(0, first_at / 1000)], [(0, second_at / 1000)])


def test_a_pass_takes_what_was_measured_and_not_only_what_was_fitted() -> None:
    time, rng = replace(PASS, ratios=(0.8, 1.0, 1.5)), random.Random(1)
    assert {round(time.draw(rng, 1, 1), 6) for _ in range(50)} == {0.04, 0.05, 0.075}


def one_shot(rate: float, max_batch: int) -> float:
    """The mean wait before the pass, of sessions with one draft each."""
    load = Load(1, rate, scheme("u"), DeviceTime(0.0))
    site = Site(1, TIME, INSTANT, limits=Limits(max_batch=max_batch), round_trip=0.0)
    env, rng, gauge = simpy.Environment(), random.Random(7), Gauge(5.0)
    worker = worker_of(env, site.limits)
    pool = Pool(env, [worker], [Broker(env, INSTANT, rng)], gauge, rng, 0.0)

    def arrive() -> Generator[simpy.Event]:
        for gap in Arrivals(rate).gaps(rng):
            yield env.timeout(gap)
            env.process(Session(pool, load.scheme, load.scheme.traces[0], load.device).run())

    env.process(worker.run())
    env.process(arrive())
    env.run(until=5.0 + 20_000 / rate)
    return float(np.mean(gauge.latencies)) - PASS.fixed


def test_without_batching_the_wait_is_that_of_pollaczek_and_khinchin() -> None:
    rate, seconds = 12.0, PASS.fixed
    load = rate * seconds
    assert one_shot(rate, max_batch=1) == pytest.approx(load * seconds / 2 / (1 - load), rel=0.05)


def test_with_boundless_batches_the_wait_is_what_is_left_of_the_running_pass() -> None:
    rate, seconds = 40.0, PASS.fixed
    during = rate * seconds
    waits = during / (during + math.exp(-during))  # the others find the worker idle
    assert one_shot(rate, max_batch=1000) == pytest.approx(waits * seconds / 2, rel=0.03)


def counted(steps: str, window: int, one_way: float = 0.01) -> tuple[Gauge, Worker]:
    env, rng, gauge = simpy.Environment(), random.Random(1), Gauge(0.0)
    worker = worker_of(env)
    pool = Pool(env, [worker], [Broker(env, INSTANT, rng)], gauge, rng, one_way)
    texts = scheme(steps, window=window)
    env.process(worker.run())
    env.run(until=env.process(Session(pool, texts, texts.traces[0], DeviceTime(0.02, 4)).run()))
    return gauge, worker


def test_a_session_sends_a_block_a_round_and_skips_what_the_gate_skips() -> None:
    assert counted("h" * 12, window=1)[0].num_uplinks == 3
    assert counted("hhuhhh", window=1)[0].num_uplinks == 2
    assert counted("ssusssuss", window=1)[0].num_uplinks == 2
    assert counted("ssss", window=4)[0].num_uplinks == 0


def test_a_rejection_sends_the_device_back_and_voids_what_was_drafted_ahead() -> None:
    steps = "hhhhhHhhhhhhhhhh"
    stopping, ahead = (counted(steps, window=size, one_way=0.1)[0] for size in (1, 4))
    assert stopping.num_uplinks == 5  # hhhh, hH.., then ten tokens in three blocks
    assert ahead.num_uplinks == 7  # two more blocks that were drafted in vain
    assert stopping.num_tokens == ahead.num_tokens == len(steps)


def test_a_block_that_waits_for_its_worker_and_falls_meanwhile_is_never_sent() -> None:
    assert counted("hHhhhhhh", window=4, one_way=0.1)[0].num_uplinks == 3


def test_the_target_alone_takes_a_pass_a_token() -> None:
    env, rng, gauge = simpy.Environment(), random.Random(1), Gauge(0.0)
    worker = worker_of(env)
    pool = Pool(env, [worker], [Broker(env, INSTANT, rng)], gauge, rng, 0.0)
    texts = scheme("u" * 10, drafts=False)
    env.process(worker.run())
    env.run(until=env.process(Session(pool, texts, texts.traces[0], DeviceTime(0.0)).run()))
    assert (worker.num_passes, len(gauge.latencies), env.now) == (10, 10, pytest.approx(0.5))


@pytest.mark.parametrize("burst", [1.0, 4.0, 10.0])
def test_arrivals_keep_their_mean_rate_in_bursts_too(burst: float) -> None:
    gaps = Arrivals(50.0, burst, burst_seconds=0.2).gaps(random.Random(1))
    assert 100_000 / sum(next(gaps) for _ in range(100_000)) == pytest.approx(50.0, rel=0.1)


def fleet(num_devices: int, num_workers: int, effort: Effort, **settings: float) -> Outcome:
    texts = scheme("hhhhhhHhhhhhhhhh", "hhhhuhhhhh", window=4)
    load = Load(num_devices, 1 / 60, texts, DeviceTime(0.02), burst=settings.get("burst", 1.0))
    time = WorkerTime(replace(PASS, per_session=0.002), NO_LOOP)
    site = Site(num_workers, time, BrokerTime(2e-5, 1e-5, (3e-4,), 1e3, "given"))
    return simulate(load, site, effort)


def test_a_run_is_a_function_of_its_seed() -> None:
    assert fleet(500, 2, light()) == fleet(500, 2, light())
    assert fleet(500, 2, light()) != fleet(500, 2, replace(light(), seed=4))


@pytest.mark.slow
def test_a_slice_of_the_workers_stands_for_the_whole_pool() -> None:
    whole, part = (
        fleet(12_000, 12, replace(light(num_answers=4 * count), max_workers=size))
        for count, size in ((3000, 12), (1000, 4))
    )
    assert part.num_simulated == 4
    assert part.p50 == pytest.approx(whole.p50, rel=0.1)
    assert part.p99 == pytest.approx(whole.p99, rel=0.15)
    assert part.tokens_per_second == pytest.approx(whole.tokens_per_second, rel=0.1)
    assert part.messages_per_second == pytest.approx(whole.messages_per_second, rel=0.1)


def test_too_large_a_fleet_is_said_to_be_too_large() -> None:
    fine, drowned = fleet(500, 1, light()), fleet(50_000, 1, light())
    assert fine.meets(0.5)
    assert not drowned.is_stable


def test_a_pool_that_turns_devices_away_does_not_meet_its_target() -> None:
    fine = fleet(500, 1, light())
    assert not replace(fine, busy_share=0.01).meets(0.5)
    assert not replace(fine, failed_share=0.001).meets(0.5)
    assert not replace(fine, p99=0.6).meets(0.5)


def test_the_page_names_the_flags_that_it_was_made_with() -> None:
    parser = argparse.ArgumentParser()
    add_flags(parser)
    assert command_line(parser.parse_args(["--report"])) == "python -m evaluation fleet --report"
    words = ["--devices", "500", "--burst", "2.0", "--report"]
    assert command_line(parser.parse_args(words)) == f"python -m evaluation fleet {' '.join(words)}"


def test_a_broker_with_too_many_messages_breaks_first() -> None:
    texts = scheme("hhhhhhhhuhhhh", window=4)
    slow = BrokerTime(0.002, 0.0, (0.0,), 0.0, "slow")
    outcome = simulate(Load(6000, 1 / 60, texts, DeviceTime(0.02)), Site(8, TIME, slow), light())
    assert outcome.broker_load > 0.8
    assert (
        first_to_break(outcome, Load(6000, 1 / 60, texts, DeviceTime(0.02)), Site(8, TIME, slow))[0]
        == "the broker"
    )


@pytest.mark.slow
def test_the_smallest_pool_that_meets_the_target_is_found() -> None:
    texts = scheme("hhhhhhhhuhhhh", window=4)
    load, site = (
        Load(6000, 1 / 60, texts, DeviceTime(0.02)),
        Site(1, WorkerTime(PassTime(0.2, 0.01, 0, ""), NO_LOOP), INSTANT),
    )
    few = light(num_answers=1000)
    tried = list[Outcome]()
    found = enough_workers(load, site, few, 0.6, tried.append)
    assert found is not None
    assert found.meets(0.6)
    failed = max(each.num_workers for each in tried if not each.meets(0.6))
    assert failed < found.num_workers <= failed + max(1, found.num_workers // 20)
    assert enough_workers(load, site, few, 0.15, lambda _: None) is None  # shorter than a pass


def test_the_command_answers_in_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fleet", "--devices", "200", "--answers", "1000", "--target", "demo-cpu"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("200 devices need ")
    assert "p99" in said


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--devices", "0"], "--devices must be above 0"),
        (["--scheme", "slm"], "no texts of scheme slm"),
        (["--target", "none"], "no profile none"),
        (["--burst", "20"], "--burst must be 1"),
        (["--prompts-per-hour", "100000"], "cannot answer"),
        (["--inputs", "nowhere.json"], "there is no nowhere.json"),
    ],
)
def test_what_cannot_be_simulated_is_said_in_a_sentence(
    flags: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["fleet", *flags]) == 2
    assert sentence in capsys.readouterr().err


def test_what_was_measured_says_where_and_what_was_assumed_says_so() -> None:
    inputs = load_inputs(INPUTS)
    assert "python -m benchmarks.fleet_inputs" in inputs.source
    for name, each in inputs.targets.items():
        assert ("assumed" in name) == ("assumed" in each.source)
    assert all(json.dumps(each.to_json()) for each in inputs.schemes.values())
