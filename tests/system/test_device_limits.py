"""What one device may take of a worker: messages, turns, prompt in a pass, cache, memory; and floods."""

import asyncio
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.fuzz.flood import Flood
from benchmarks.fuzz.messages import GARBAGE, lattice_of
from benchmarks.support.attackers import Attack
from benchmarks.support.device import Device, Place
from benchmarks.support.scripted import VOCABULARY, Rows, Script, ScriptedTarget
from cloud_worker.config import WorkerConfig
from cloud_worker.engines.local import LocalEngine
from cloud_worker.passes.forward_pass import MAX_CHUNKS, Pass, in_chunks
from cloud_worker.passes.page_pool import PagePool
from cloud_worker.scheduling.device_rates import (
    BURST_SECONDS,
    BYTES_PER_MESSAGE,
    SECONDS_PER_MESSAGE,
    Admission,
    DeviceRates,
)
from cloud_worker.scheduling.fair_queue import FairQueue, SessionKey
from cloud_worker.scheduling.scheduler import MAX_FAILURES, Limits, Scheduler
from cloud_worker.session.backlog import BYTES_PER_TOKEN, Backlog, draft_bytes
from cloud_worker.session.session import Target
from cloud_worker.worker import Worker
from common.link import Delivery, Link, LinkSettings
from common.protocol.codec import decode_to_device, encode
from common.protocol.fingerprint import fingerprint
from common.protocol.messages import Correction, Draft, DraftToken, Opening, Reason, Refusal, ToDevice
from common.protocol.topics import Topics
from common.sampling.distribution import Dense, Sampling
from edge_agent.agent import EdgeAgent
from edge_agent.config import AgentConfig
from evaluation.local.broker import LocalBroker
from evaluation.local.worker import LocalWorker
from tests.support.fakes import TOKENIZER, VOCAB_SIZE, opening
from tests.support.narrowing import expect
from tests.support.small_models import FolderOf, SmallModels

TAKE, REFUSE, DROP = Admission.TAKE, Admission.REFUSE, Admission.DROP

# -- messages a second ---------------------------------------------------------------------------------


def test_a_device_may_send_a_burst_and_then_its_rate() -> None:
    rates = DeviceRates(10)
    burst = int(10 * BURST_SECONDS)
    assert [rates.admit("a", 1, 0.0) for _ in range(burst)] == [TAKE] * burst
    assert rates.admit("a", 1, 0.0) is REFUSE
    later = [rates.admit("a", 1, 1.0) for _ in range(11)]
    assert later == [TAKE] * 10 + [REFUSE]


def test_a_flood_is_answered_once_a_second_and_costs_no_other_device() -> None:
    rates = DeviceRates(10)
    admissions = [rates.admit("flood", 1, number / 1000) for number in range(10_000)]
    assert admissions.count(REFUSE) <= 10
    assert admissions.count(TAKE) <= 10 * (BURST_SECONDS + 10)
    assert rates.admit("other", 1, 10.0) is TAKE


def test_a_long_message_counts_as_several() -> None:
    rates = DeviceRates(10)
    taken = [rates.admit("a", 4 * BYTES_PER_MESSAGE, 0.0) for _ in range(5)]
    assert taken == [TAKE] * 4 + [REFUSE]
    assert DeviceRates(1).admit("a", 100 * BYTES_PER_MESSAGE, 0.0) is TAKE  # or it could never be sent


def test_what_takes_long_to_read_counts_as_several() -> None:
    rates = DeviceRates(10)
    assert rates.admit("a", 1, 0.0) is TAKE
    rates.charge("a", 12.5 * SECONDS_PER_MESSAGE)
    assert [rates.admit("a", 1, 0.0) for _ in range(8)] == [TAKE] * 7 + [REFUSE]
    rates.charge("a", 1e9)  # never owed for longer than a burst takes to flow in
    assert rates.admit("a", 1, 2 * BURST_SECONDS) is TAKE
    rates.charge("nobody", 1.0)
    rates.charge("b", 0.5 * SECONDS_PER_MESSAGE)
    assert len(rates) == 1


def test_a_rate_of_zero_takes_everything_and_remembers_nobody() -> None:
    rates = DeviceRates(0)
    assert {rates.admit(f"d{number}", 1, 0.0) for number in range(100)} == {TAKE}
    assert len(rates) == 0


@given(st.lists(st.tuples(st.integers(0, 9), st.floats(0, 2)), max_size=200))
def test_the_table_of_buckets_is_bounded_and_a_clock_that_stands_still_gives_nothing(
    events: list[tuple[int, float]],
) -> None:
    rates, now = DeviceRates(1, max_devices=3), 0.0
    for device, seconds in events:
        now += seconds
        rates.admit(f"d{device}", 1, now)
        assert len(rates) <= 3
    taken = [rates.admit("last", 1, now) for _ in range(10)].count(TAKE)
    assert taken <= BURST_SECONDS


# -- turns ---------------------------------------------------------------------------------------------


def test_devices_take_turns_however_many_sessions_wait() -> None:
    queue = FairQueue()
    for number in range(4):
        queue.add(SessionKey("gateway", f"s{number}"))
    queue.add(SessionKey("lamp", "s"))
    order = []
    for _ in range(7):
        order.append(key := queue.take())
        queue.add(key)  # it has more to do at once
    assert [key.device for key in order] == ["gateway", "lamp"] * 3 + ["gateway"]
    assert [key.session for key in order if key.device == "gateway"] == ["s0", "s1", "s2", "s3"]


@given(st.lists(st.tuples(st.sampled_from(["add", "first", "take", "remove"]), st.integers(0, 8))))
def test_a_session_waits_once_and_is_counted(events: list[tuple[str, int]]) -> None:
    queue, waiting = FairQueue(), set()
    for event, number in events:
        key = SessionKey(f"d{number % 3}", f"s{number}")
        if event == "take" and waiting:
            waiting.remove(queue.take())
        elif event == "remove":
            queue.remove(key)
            waiting.discard(key)
        elif event in ("add", "first"):
            queue.add(key) if event == "add" else queue.add_first(key)
            waiting.add(key)
        assert len(queue) == len(waiting)


def test_a_full_batch_is_shared_between_devices() -> None:
    held = Scheduler(Target("w0", TOKENIZER, VOCAB_SIZE, max_tokens=64), Limits(max_batch=4))
    draft = Draft(0, 0, 0, (1, 2, 3), (DraftToken(4),), opening=opening(1))
    for number in range(16):
        held.receive(SessionKey("gateway", f"s{number}"), draft)
    for name in ("lamp", "radio"):
        held.receive(SessionKey(name, "s"), draft)
    tasks, _ = held.next_batch()
    assert [task.key.device for task in tasks] == ["gateway", "lamp", "radio", "gateway"]


# -- prompt in a pass ----------------------------------------------------------------------------------


def prompt(session: str, owner: str, length: int = 100, num_rows: int = 1) -> Pass:
    return Pass(session, range(length), num_rows, owner)


def lengths(chunks: Sequence[Pass | None]) -> list[int]:
    return [0 if chunk is None else len(chunk.tokens) for chunk in chunks]


def test_many_prompts_of_one_device_slow_another_down_no_more_than_one() -> None:
    passes = [prompt(f"s{number}", "gateway") for number in range(4)]
    passes += [prompt("lamp", "lamp", 20), prompt("radio", "radio")]
    chunks = in_chunks(passes, [len(one.tokens) for one in passes], chunk_tokens=64)
    assert lengths(chunks) == [64, 0, 0, 0, 20, 64]


def test_a_device_alone_uses_the_whole_batch() -> None:
    passes = [prompt(f"s{number}", "gateway") for number in range(3)]
    assert lengths(in_chunks(passes, [100] * 3, chunk_tokens=64)) == [64] * 3


def test_a_device_alone_brings_no_more_into_a_pass_than_those_who_come_next_can_wait_for() -> None:
    passes = [prompt(f"s{number}", "gateway", 600, num_rows=600) for number in range(9)]
    chunks = in_chunks(passes, [600] * 9, chunk_tokens=256)
    assert lengths(chunks) == [600, 600, 0, 0, 0, 0, 0, 0, 0]  # rows are not cut: two are beyond four chunks
    passes = [prompt(f"s{number}", f"d{number}", 600) for number in range(9)]
    assert sum(lengths(in_chunks(passes, [600] * 9, chunk_tokens=256))) == MAX_CHUNKS * 256


def test_small_passes_are_never_put_off() -> None:
    passes = [prompt("long", "gateway"), prompt("short", "gateway"), prompt("lamp", "lamp")]
    assert lengths(in_chunks(passes, [100, 8, 8], chunk_tokens=64)) == [64, 100, 100]


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(1, 200), st.integers(1, 50)), min_size=1))
def test_whatever_waits_the_pieces_go_on_and_come_to_an_end(sizes: list[tuple[int, int, int]]) -> None:
    passes = [
        prompt(f"s{index}", f"d{owner}", length, min(rows, length))
        for index, (owner, length, rows) in enumerate(sizes)
    ]
    held = [0] * len(passes)
    for _ in range(2000):
        waiting = [index for index, one in enumerate(passes) if held[index] < len(one.tokens)]
        if not waiting:
            return
        chosen = [passes[index] for index in waiting]
        missing = [len(one.tokens) - one.start(held[i]) for i, one in zip(waiting, chosen, strict=True)]
        chunks = in_chunks(chosen, missing, chunk_tokens=16)
        assert chunks[0] is not None
        for index, chunk in zip(waiting, chunks, strict=True):
            held[index] = len(chunk.tokens) if chunk is not None else held[index]
    raise AssertionError("it does not come to an end")


# -- cache and memory ----------------------------------------------------------------------------------


def fill(pool: PagePool, session: str, owner: str, num_pages: int) -> None:
    tokens = [hash(session) % 997] * (num_pages * pool.page_size)
    assert pool.place(session, tokens, len(tokens) - 1, owner=owner) is not None
    pool.commit(session, tokens)


def test_who_holds_more_than_half_of_the_cache_gives_way_first() -> None:
    pool = PagePool(10, page_size=4)
    fill(pool, "old", "lamp", 2)
    for number in range(4):
        fill(pool, f"s{number}", "gateway", 2)
    fill(pool, "new", "radio", 2)
    assert pool.cached_tokens("s0") == 0
    assert pool.cached_tokens("old") == pool.cached_tokens("new") == 8
    fill(pool, "s4", "gateway", 2)  # six pages: still above its half
    assert [pool.cached_tokens(f"s{number}") for number in range(5)] == [0, 0, 8, 8, 8]
    assert pool.cached_tokens("old") == 8


def test_a_device_alone_may_use_the_whole_cache() -> None:
    pool = PagePool(10, page_size=4)
    for number in range(5):
        fill(pool, f"s{number}", "gateway", 2)
    assert pool.num_free == 0
    assert pool.num_sessions == 5


def test_what_waits_of_one_device_is_bounded_in_bytes_over_all_its_sessions() -> None:
    dense = Dense(np.ones(VOCAB_SIZE, np.float16))
    draft = Draft(0, 0, 0, (1, 2), (DraftToken(1, dense),), opening=opening(1))
    limit = 3 * draft_bytes(draft)
    held = Scheduler(
        Target("w0", TOKENIZER, VOCAB_SIZE, max_tokens=64), Limits(max_waiting_bytes_per_device=limit)
    )
    for number in range(3):
        assert held.receive(SessionKey("flood", f"s{number}"), draft) == []
    (answer,) = held.receive(SessionKey("flood", "s3"), draft)
    refusal = expect(Refusal, answer.message)
    assert (refusal.reason, refusal.n) == (Reason.BUSY, 0)
    assert held.receive(SessionKey("lamp", "s"), draft) == []
    held.next_batch()
    assert held.receive(SessionKey("flood", "s3"), draft) == []


def test_the_bytes_of_a_backlog_are_those_of_its_drafts() -> None:
    backlog = Backlog(max_tokens=100)
    draft = Draft(0, 0, 5, (1, 2), (DraftToken(1, lattice_of(8, 0)), DraftToken(2)))
    assert draft_bytes(draft) == 5 * BYTES_PER_TOKEN + 2 * 8 * 8
    for _ in range(3):
        backlog.add(draft)
    backlog.take()
    assert backlog.num_bytes == 2 * draft_bytes(draft)
    assert (backlog.clear(), backlog.num_bytes, len(backlog)) == ([draft] * 2, 0, 0)


# -- a pass that fails ---------------------------------------------------------------------------------

POISON, CURSED = 13, 17


class FragileTarget(ScriptedTarget):
    """A model that fails where one token occurs, and cannot know another one."""

    def logits(self, passes: Sequence[Pass]) -> list[Rows]:
        """As the script, or not at all."""
        time.sleep(0.1)
        if any(POISON in one.tokens for one in passes):
            raise RuntimeError("out of memory")
        if any(CURSED in one.tokens for one in passes):
            raise ValueError("no such token")
        return super().logits(passes)


async def answers_of(broker_url: str, rounds: Sequence[dict[str, int]]) -> list[dict[str, ToDevice]]:
    """In each round every session sends a draft with its token in the context: the answers."""
    config = WorkerConfig(broker=broker_url, worker="w0")
    worker = Worker(config, LocalEngine(FragileTarget(Script())))
    running = asyncio.create_task(worker.run())
    heard: list[dict[str, ToDevice]] = []
    topics = Topics()
    opened = Opening(fingerprint(VOCABULARY), len(VOCABULARY), Sampling(0.0), 1)
    async with Link(LinkSettings(broker_url), subscriptions=[topics.correction_filter("device")]) as link:
        for n, contexts in enumerate(rounds):
            for session, token in contexts.items():
                draft = Draft(n, 0, 0, (1, token), (), bonus=1, opening=opened)
                topic = topics.draft("demo", "w0", "device", session)
                while await link.send(topic, encode(draft), qos=1) is not Delivery.SENT:
                    await asyncio.sleep(0.05)  # the worker is not there yet
            heard.append({})
            while heard[-1].keys() != contexts.keys():
                received = await asyncio.wait_for(link.receive(), 30)
                session = topics.parse_correction(received.topic).session
                heard[-1][session] = decode_to_device(received.payload)
    worker.stop()
    await running
    return heard


def test_only_the_task_that_fails_is_refused_and_not_for_ever(broker: LocalBroker) -> None:
    sound = {f"sound{number}": number for number in range(5)}
    rounds = [{**sound, "poison": POISON, "cursed": CURSED}, *[{"poison": POISON}] * (MAX_FAILURES - 1)]
    first, *later = asyncio.run(answers_of(broker.url, rounds))
    assert all(isinstance(first[session], Correction) for session in sound)
    assert isinstance(first["cursed"], Refusal)
    assert first["cursed"].reason is Reason.BAD_REQUEST
    told = [expect(Refusal, answers["poison"]) for answers in (first, *later)]
    assert [one.reason for one in told] == [Reason.BUSY] * (MAX_FAILURES - 1) + [Reason.BAD_REQUEST]
    assert [one.retry_after for one in told] == [1.0, 2.0, 4.0, 8.0, 0.0]


def test_a_device_beside_hostile_accounts_is_served_and_they_are_refused(broker: LocalBroker) -> None:
    config = WorkerConfig(broker=broker.url, worker="w1", pool="shared")
    opened = Opening(fingerprint(VOCABULARY), len(VOCABULARY), Sampling(), 1)
    attack = Attack("small", 3, 1000.0, 1.0, opened, 500, broker.port, "w1", "shared")

    async def scenario() -> tuple[Device, Worker]:
        worker = Worker(config, LocalEngine(ScriptedTarget(Script(), seconds=0.002)))
        running = asyncio.create_task(worker.run())
        hostile = asyncio.create_task(asyncio.to_thread(attack.run, lambda: None, lambda: None))
        async with Device.open(LinkSettings(broker.url), "good", Place("shared")) as device:
            await device.generate(24, block_length=4)
        await hostile
        worker.stop()
        await running
        return device, worker

    device, worker = asyncio.run(scenario())
    assert device.failure is None
    assert device.num_refusals == 0
    assert worker.snapshot().tally.num_refusals[Reason.BUSY] > 0


# -- a flood beside a device that behaves --------------------------------------------------------------


@pytest.fixture(scope="module")
def slow_taker(
    tmp_path_factory: pytest.TempPathFactory, models: SmallModels
) -> Iterator[tuple[LocalBroker, LocalWorker]]:
    flags = ("--model", str(models.target("llama")), "--max-rate-per-device", "30")
    with (
        LocalBroker(tmp_path_factory.mktemp("flooded")) as broker,
        LocalWorker(broker.url, *flags, name="victim") as worker,
    ):
        yield broker, worker


async def text_of(broker_url: str, draft: Path) -> list[int | None]:
    config = AgentConfig(
        broker=broker_url, model=str(draft), device="good", seed=7, temperature=1.0, max_tokens=40,
        on_cloud_loss="wait",
    )  # fmt: skip
    async with EdgeAgent.open(config) as agent:
        generation = agent.generate("turn on the kitchen light")
        found = [token.token async for token in generation]
        assert generation.failure is None
        return found


def test_a_flood_leaves_the_text_of_another_device_as_it_is(
    slow_taker: tuple[LocalBroker, LocalWorker], draft_folder: FolderOf
) -> None:
    broker, worker = slow_taker
    flood = Flood(broker.port, opening(), 3, devices=("attacker",))

    async def siege() -> tuple[list[int | None], list[list[int | None]]]:
        before = await text_of(broker.url, draft_folder("llama"))
        attack = asyncio.create_task(asyncio.to_thread(flood.send, 20_000))
        during = [await text_of(broker.url, draft_folder("llama"))]
        while not attack.done():
            during.append(await text_of(broker.url, draft_folder("llama")))
        await attack
        return before, during

    before, during = asyncio.run(siege())
    assert len(before) > 10
    assert all(text == before for text in during)
    assert "its device sends too many" in worker.log
    assert "Traceback" not in worker.log


def test_the_answers_to_a_flood_are_no_flood(slow_taker: tuple[LocalBroker, LocalWorker]) -> None:
    broker, _ = slow_taker
    topic = Topics().draft("demo", "victim", "loud", "s")

    async def num_answers() -> int:
        async with Link(LinkSettings(broker.url), subscriptions=["hlm/v1/correction/loud/+"]) as link:
            for _ in range(1000):
                await link.send(topic, GARBAGE[8])
            return await quiet(link)

    async def quiet(link: Link) -> int:
        count = 0
        try:
            while True:
                await asyncio.wait_for(link.receive(), 2.0)
                count += 1
        except TimeoutError:
            return count

    assert 20 <= asyncio.run(num_answers()) < 500  # a busy machine loses more of them


def test_a_device_that_was_too_fast_is_told_when_to_come_back(
    slow_taker: tuple[LocalBroker, LocalWorker],
) -> None:
    broker, _ = slow_taker
    draft = Draft(5, 0, 9, (), (DraftToken(1),), check=1)
    topic = Topics().draft("demo", "victim", "hasty", "s")

    async def refusals() -> set[tuple[int | None, Reason, float]]:
        subscriptions = ["hlm/v1/correction/hasty/+"]
        async with Link(LinkSettings(broker.url), subscriptions=subscriptions) as link:
            while True:
                for _ in range(200):
                    await link.send(topic, encode(draft))
                for _ in range(60):
                    answer = decode_to_device((await asyncio.wait_for(link.receive(), 30)).payload)
                    if isinstance(answer, Refusal) and answer.reason is Reason.BUSY:
                        return {(answer.n, answer.reason, answer.retry_after)}

    assert asyncio.run(asyncio.wait_for(refusals(), 60)) == {(5, Reason.BUSY, 1.0)}
