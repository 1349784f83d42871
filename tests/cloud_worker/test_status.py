"""A worker's status: what it tells, when, and how an operator reads it."""

import asyncio
import dataclasses
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import pytest

from cloud_worker.monitoring.presence import Presence
from cloud_worker.monitoring.status_table import as_json, as_table, is_served
from cloud_worker.monitoring.tally import Pace, WorkerFate, WorkerTally
from cloud_worker.scheduling.fair_queue import SessionKey
from cloud_worker.scheduling.task import Answer, Task
from cloud_worker.session.session import CloudSession, Job, Target
from common.link import Link, LinkSettings, Publish
from common.protocol.messages import Correction, Draft, DraftToken, Reason, Refusal
from common.protocol.worker_status import State, Status, read_status
from edge_agent.config import AgentConfig
from evaluation.local.broker import LocalBroker
from evaluation.local.worker import LocalWorker
from tests.support.fakes import TOKENIZER, VOCAB_SIZE, opening
from tests.support.processes import generate
from tests.support.small_models import FolderOf

ONLINE = Status(State.ONLINE, "demo", "large", "1.0", 2, 1, 1.5, 30.25, 61.0)
OFFLINE = Status(State.OFFLINE, "demo", "large", "1.0")


# -- what is told, and when --------------------------------------------------------------------------


def test_a_status_is_told_once_until_something_but_the_time_changes() -> None:
    presence = Presence("hlm/v1/worker/w", OFFLINE)
    assert presence.message(ONLINE) == Publish("hlm/v1/worker/w", ONLINE.payload(), 1, True)
    assert presence.message(dataclasses.replace(ONLINE, uptime=99.0)) is None
    assert presence.message(dataclasses.replace(ONLINE, uptime=99.0, queue=0)) is not None
    assert presence.message(ONLINE) is not None


def test_after_a_new_connection_the_status_is_told_again() -> None:
    presence = Presence("hlm/v1/worker/w", OFFLINE)
    presence.message(ONLINE)
    presence.forget()
    assert presence.message(ONLINE) is not None


# -- counting ----------------------------------------------------------------------------------------

KEY = SessionKey("kitchen", "s")


def task(*block_lengths: int) -> Task:
    """One task with drafts 0, 1, ... of these block lengths."""
    drafts = [
        Draft(n, 0, 0, (1,), tuple(DraftToken(2) for _ in range(length)))
        for n, length in enumerate(block_lengths)
    ]
    session = CloudSession(Target("w", TOKENIZER, VOCAB_SIZE, max_tokens=64))
    return Task(KEY, session, Job(opening(1), tuple(drafts), (1, 2), 1))


def test_tokens_are_counted_by_what_became_of_them() -> None:
    tally = WorkerTally()
    corrections = [
        Correction(0, 4, None, "w"),  # all of 4
        Correction(1, 2, 7, "w"),  # 2 of 4, the third is rejected, one in its place
        Correction(2, 1, 7, "w"),  # all of 1 and a bonus token
        Correction(2, 1, 7, "w", index=1),  # a further bonus token
    ]
    tally.count_corrections([task(4, 4, 1)], [Answer(KEY, one) for one in corrections])
    assert tally.num_by_fate == {
        WorkerFate.ACCEPTED: 7,
        WorkerFate.REJECTED: 1,
        WorkerFate.CORRECTED: 1,
        WorkerFate.TARGET: 2,
    }
    assert (tally.num_tested, tally.num_final) == (8, 10)


def test_refusals_are_counted_by_reason() -> None:
    tally = WorkerTally()
    tally.count_refusals(
        [Answer(KEY, Refusal(0, Reason.BUSY, "w")), Answer(KEY, Correction(0, 1, None, "w"))]
    )
    assert tally.num_refusals[Reason.BUSY] == 1
    assert sum(tally.num_refusals.values()) == 1


def test_the_pace_is_that_of_the_time_since_the_last_update() -> None:
    tally, pace = WorkerTally(), Pace(window=1.0, began=100.0)
    tally.num_by_fate[WorkerFate.ACCEPTED] = 30
    for num_sessions in (1, 2):
        tally.count_pass(num_sessions, 0.1)
    pace.update(tally, now=102.0)
    assert (pace.tokens_per_second, pace.batch_size) == (15.0, 1.5)
    tally.num_by_fate[WorkerFate.ACCEPTED] = 1000
    pace.update(tally, now=102.5)
    assert pace.tokens_per_second == 15.0  # too early for a new one
    pace.update(tally, now=104.0)
    assert (pace.tokens_per_second, pace.batch_size) == (485.0, 0.0)


# -- how people read it -------------------------------------------------------------------------------


def test_the_table_shows_numbers_of_those_who_are_there() -> None:
    lines = [" ".join(line.split()) for line in as_table({"one": ONLINE, "two": OFFLINE}).splitlines()]
    assert lines == [
        "WORKER STATE SESSIONS QUEUE BATCH TOKENS/S UPTIME VERSION MODEL",
        "one online 2 1 1.5 30.2 1m 1s 1.0 large",
        "two offline - - - - - 1.0 large",
    ]


def test_the_json_holds_every_field() -> None:
    assert json.loads(as_json({"one": ONLINE})) == [{"worker": "one", **json.loads(ONLINE.payload())}]


def test_a_pool_is_served_while_somebody_takes_new_sessions() -> None:
    draining = dataclasses.replace(ONLINE, state=State.DRAINING)
    assert is_served({"one": ONLINE, "two": OFFLINE})
    assert not is_served({"one": draining, "two": OFFLINE})


# -- real processes -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pool(
    tmp_path_factory: pytest.TempPathFactory, family_folder: FolderOf
) -> Iterator[tuple[LocalBroker, LocalWorker]]:
    """A broker and one worker that tells its status four times a second."""
    model = str(family_folder("llama"))
    with (
        LocalBroker(tmp_path_factory.mktemp("broker")) as broker,
        LocalWorker(broker.url, "--model", model, "--status-interval", "0.25", name="one") as worker,
    ):
        yield broker, worker


def status(broker_url: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "cloud_worker", "status", "--broker", broker_url, *arguments]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CLOUD_WORKER_")}
    return subprocess.run(command, capture_output=True, text=True, timeout=30, env=environment)


def test_the_status_follows_a_worker_from_its_start_to_its_end(
    pool: tuple[LocalBroker, LocalWorker], draft_folder: FolderOf
) -> None:
    broker, worker = pool

    async def told() -> list[Status]:
        """All statuses from now on, while a generation runs, the broker restarts and the worker stops."""
        subscriptions = ["hlm/v1/worker/one"]
        link = Link(LinkSettings(broker.url, "watcher"), subscriptions=subscriptions, wants_retained=True)
        config = AgentConfig(broker=broker.url, model=str(draft_folder("llama")), max_tokens=40, seed=1)
        statuses: list[Status] = []

        async def watch() -> None:
            async for received in link:
                statuses.append(read_status(received.payload))

        async def until(test: Callable[[Status], bool]) -> None:
            end = time.monotonic() + 10
            while not (statuses and test(statuses[-1])):
                assert time.monotonic() < end, statuses[-3:]
                await asyncio.sleep(0.02)

        async with link:
            watcher = asyncio.create_task(watch())
            await until(lambda last: last.state is State.ONLINE and last.sessions == 0)
            assert statuses[-1].pool == "demo"
            await generate(config, "turn on the kitchen light")
            await until(lambda last: last.tokens_per_second > 0 and last.batch_size == 1)
            await until(lambda last: last.sessions == 0 and last.tokens_per_second == 0 and last.queue == 0)
            num_told = len(statuses)
            await asyncio.sleep(0.8)
            assert len(statuses) == num_told  # nothing happens, nothing is told
            broker.restart()
            await until(lambda last: len(statuses) > num_told and last.state is State.ONLINE)
            seen = await asyncio.to_thread(status, broker.url, "--json")
            assert seen.returncode == 0
            assert [one["worker"] for one in json.loads(seen.stdout)] == ["one"]
            assert await asyncio.to_thread(worker.stop) == 0
            await until(lambda last: last.state is State.OFFLINE)
            assert statuses[-2].state is State.DRAINING
            watcher.cancel()
        return statuses

    asyncio.run(told())
    gone = status(broker.url)
    assert gone.returncode == 1
    assert gone.stdout.splitlines()[1].split()[:3] == ["one", "offline", "-"]
    assert "no worker is online in pool demo" in gone.stderr


def test_an_empty_pool_and_a_missing_broker_are_one_line(broker: LocalBroker) -> None:
    for done, words in (
        (status(broker.url, "--pool", "nobody"), "no worker is online in pool nobody"),
        (status("mqtt://127.0.0.1:1"), "no broker at 127.0.0.1:1"),
    ):
        assert (done.returncode, done.stdout) == (1, "")
        assert words in done.stderr
        assert done.stderr.count("\n") == 1
