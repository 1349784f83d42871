"""Metrics and health: a scrape shows what happened, and health is what an orchestrator acts on."""

import asyncio
import re
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from cloud_worker.monitoring.metrics import Metrics as WorkerMetrics
from cloud_worker.monitoring.snapshot import HUNG_PASS, LONG_PASS, Snapshot
from cloud_worker.monitoring.tally import ErrorKind, WorkerFate, WorkerTally
from common.link import LinkStatistics
from common.link.values import Certificate
from common.process.histogram import Histogram
from common.process.http_pages import HttpPage, HttpPages, HttpPagesError, made_in
from common.protocol.messages import Reason, Refusal
from common.protocol.worker_status import State
from edge_agent.agent import EdgeAgent
from edge_agent.config import AgentConfig
from edge_agent.monitoring.metrics import Metrics as EdgeMetrics
from edge_agent.monitoring.metrics import Snapshot as EdgeSnapshot
from edge_agent.monitoring.totals import Totals
from edge_agent.session.transcript import Fate
from evaluation.local.broker import LocalBroker, free_port
from evaluation.local.worker import LocalWorker
from tests.repository.test_import_rules import loaded_by
from tests.support.circle import Circle
from tests.support.small_models import FolderOf

Samples = dict[str, float]


def samples(text: str) -> Samples:
    """`name{label}` -> value, checked by the parser of prometheus-client."""
    return {
        sample.name + "".join(f"{{{value}}}" for value in sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def get(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


# -- values -------------------------------------------------------------------------------------------


def test_a_histogram_counts_up_to_each_bound() -> None:
    histogram = Histogram((1, 2, 4))
    for value in (0.5, 1, 1.5, 4, 9):
        histogram.add(value)
    assert histogram.cumulative() == [("1", 2), ("2", 3), ("4", 4), ("+Inf", 5)]
    assert (histogram.sum, histogram.num_values) == (16, 5)


def test_a_scrape_of_a_worker_shows_its_snapshot() -> None:
    tally = WorkerTally()
    tally.num_by_fate[WorkerFate.ACCEPTED] = 7
    tally.num_by_fate[WorkerFate.REJECTED] = 3
    tally.num_refusals[Reason.NEED_CONTEXT] = 2
    tally.num_errors[ErrorKind.PAYLOAD] = 1
    tally.count_pass(2, 0.003)
    link = LinkStatistics(num_bytes_up=10, num_bytes_down=20, num_connects=1)
    snapshot = Snapshot(State.ONLINE, tally, link, True, 5, 4, 300, 20, 64, 60.0, 0.0, {"judging": 1.5})
    shown = samples(WorkerMetrics(lambda: snapshot, {"worker": "w"}).page().body.decode())
    expected = {
        "hlm_worker_info{w}": 1,
        "hlm_worker_tokens_total{accepted}": 7,
        "hlm_worker_tokens_total{corrected}": 0,
        "hlm_worker_tested_tokens_total": 10,
        "hlm_worker_accepted_tokens_total": 7,
        "hlm_worker_refusals_total{need_context}": 2,
        "hlm_worker_errors_total{unreadable_payload}": 1,
        "hlm_worker_sent_bytes_total": 10,
        "hlm_worker_received_bytes_total": 20,
        "hlm_worker_sessions": 5,
        "hlm_worker_queue": 4,
        "hlm_worker_charged_seconds_total{judging}": 1.5,
        "hlm_worker_charged_seconds_total{reading}": 0.0,
        "hlm_worker_cached_tokens": 300,
        "hlm_worker_cache_used_pages": 20,
        "hlm_worker_cache_pages": 64,
        "hlm_worker_compute_seconds_count": 1,
        "hlm_worker_compute_seconds_bucket{0.0025}": 0,
        "hlm_worker_compute_seconds_bucket{0.005}": 1,
        "hlm_worker_batch_size_sum": 2,
    }
    assert {name: shown.get(name) for name in expected} == expected


def test_a_running_generation_counts_once_before_and_after_its_end() -> None:
    circle, totals = Circle(max_tokens=12), Totals()
    with totals.counting(circle.edge):
        assert totals.is_generating
        circle.settle()
        during = totals.tally
    assert during == totals.tally == circle.edge.tally
    assert totals.num_generations == {"stop": 0, "length": 1, "error": 0}
    assert totals.round_trip == circle.edge.round_trip.smoothed is not None
    with totals.counting(Circle(max_tokens=4).edge):
        assert totals.tally == during
        assert totals.round_trip is not None  # the last one known
    totals.answered(Refusal(0, Reason.BUSY, "w"))
    assert totals.num_refusals[Reason.BUSY] == 1


def test_the_document_names_every_metric_and_no_other() -> None:
    link = LinkStatistics(certificates=(Certificate("broker", 2e9),))
    snapshot = Snapshot(State.ONLINE, WorkerTally(), link, True, 0, 0, 0, 0, 0, 0.0)
    totals = Totals(_round_trip=0.1)
    pages = [
        WorkerMetrics(lambda: snapshot, {}).page(),
        EdgeMetrics(lambda: EdgeSnapshot(totals, 0.08, link, True), {}).page(),
    ]
    text = (Path(__file__).parents[2] / "docs" / "watching.md").read_text()
    shown = {name for page in pages for name in samples(page.body.decode())}
    shown = {name.partition("{")[0] for name in shown if name.startswith("hlm_")}
    assert set(re.findall(r"hlm_(?:worker|edge)_\w+\w", text)) <= shown | families(shown)
    short = {re.sub("^hlm_(worker|edge)_", "", name) for name in families(shown)}
    assert {name for name in short if name not in text} == {"sent_messages_total", "received_messages_total"}
    assert "`..._messages_total`" in text


def families(names: set[str]) -> set[str]:
    return {re.sub("_(bucket|sum|count)$", "", name) for name in names}


# -- pages --------------------------------------------------------------------------------------------


def test_pages_are_found_by_their_path_and_nothing_else_is_there() -> None:
    port = free_port()
    with HttpPages("127.0.0.1", port, {"/health": lambda: HttpPage.text("no", status=503)}):
        assert get(f"http://127.0.0.1:{port}/health?x=1") == (503, "no\n")
        assert get(f"http://127.0.0.1:{port}/etc/passwd") == (404, "not found; try /health\n")
        with pytest.raises(HttpPagesError, match=r"\(Address already in use\): set `metrics_port`"):
            HttpPages("127.0.0.1", port, {}).__enter__()
    with socket.socket() as gone:
        assert gone.connect_ex(("127.0.0.1", port)) != 0


def test_an_event_loop_that_hangs_is_not_healthy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("common.process.http_pages.LOOP_TIMEOUT", 0.1)

    async def hang() -> HttpPage:
        loop = asyncio.get_running_loop()
        asked = loop.run_in_executor(None, made_in, loop, lambda: HttpPage.text("well"))
        time.sleep(0.3)  # the loop does not turn
        return await asked

    page = asyncio.run(hang())
    assert (page.status, page.body) == (503, b"the event loop has been blocked for 0.1 s\n")


def test_a_loop_that_has_ended_is_not_healthy() -> None:
    loop = asyncio.new_event_loop()
    loop.close()
    assert made_in(loop, lambda: HttpPage.text("well")).status == 503


def test_without_metrics_the_library_is_not_loaded() -> None:
    assert "prometheus_client" not in loaded_by("import edge_agent.cli.commands, cloud_worker.__main__")


# -- real processes -----------------------------------------------------------------------------------


@dataclass
class Served:
    broker: LocalBroker
    worker: LocalWorker
    url: str

    @property
    def metrics(self) -> Samples:
        return samples(get(f"{self.url}/metrics")[1])

    def health(self) -> tuple[int, str]:
        return get(f"{self.url}/health")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, family_folder: FolderOf) -> Iterator[Served]:
    """A broker and one worker with its pages; the worker's first answers come while it loads."""
    port = free_port()
    arguments = ("--model", str(family_folder("llama")), "--metrics-port", str(port))
    with LocalBroker(tmp_path_factory.mktemp("broker")) as broker:
        worker = LocalWorker(broker.url, *arguments, name="one")
        worker.launch()
        served = Served(broker, worker, f"http://127.0.0.1:{port}")
        try:
            yield served
        finally:
            worker.kill()


def until(test: Callable[[], bool], timeout: float = 60.0) -> None:
    end = time.monotonic() + timeout
    while not test():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_health_follows_a_worker_and_metrics_show_what_it_did(served: Served, draft_folder: FolderOf) -> None:
    answers: set[tuple[int, str]] = set()

    def is_ready() -> bool:
        try:
            answers.add(served.health())
        except OSError:
            return False
        return (200, "ready\n") in answers

    until(is_ready)
    assert answers - {(200, "ready\n")} <= {
        (503, "the model is loading\n"),
        (503, "the broker cannot be reached\n"),
    }
    assert (503, "the model is loading\n") in answers
    edge, worker = asyncio.run(generate_and_scrape(served, str(draft_folder("llama"))))
    tokens = {fate.value: edge[f"hlm_edge_tokens_total{{{fate.value}}}"] for fate in Fate}
    assert sum(tokens.values()) == 40
    assert worker["hlm_worker_tokens_total{corrected}"] >= tokens["corrected"] > 0
    assert worker["hlm_worker_tested_tokens_total"] >= edge["hlm_edge_tested_tokens_total"] > 0
    assert worker["hlm_worker_accepted_tokens_total"] >= edge["hlm_edge_accepted_tokens_total"] > 0
    assert edge["hlm_edge_uplinks_total"] > 0
    assert worker["hlm_worker_uplinks_total{open}"] == 1
    assert worker["hlm_worker_uplinks_total{draft}"] > 0
    assert 0 < worker["hlm_worker_received_bytes_total"] <= edge["hlm_edge_sent_bytes_total"] * 2
    assert edge["hlm_edge_received_bytes_total"] > 0
    assert 0 < edge["hlm_edge_round_trip_seconds"] < 10
    assert worker["hlm_worker_compute_seconds_count"] == worker["hlm_worker_batch_size_count"] > 0
    assert worker["process_resident_memory_bytes"] > 0
    served.broker.kill()
    until(lambda: served.health() == (503, "the broker cannot be reached\n"))
    assert get(f"{served.url}/alive") == (200, "alive\n")
    served.broker.start()
    until(lambda: served.health()[0] == 200)
    assert served.metrics["hlm_worker_connects_total"] == 2


def test_a_model_that_hangs_is_seen() -> None:
    snapshot = Snapshot(
        State.ONLINE,
        WorkerTally(),
        LinkStatistics(),
        True,
        0,
        0,
        0,
        0,
        0,
        uptime=1e6,
        pass_seconds=LONG_PASS + 1,
    )
    assert snapshot.fault is not None
    assert "may hang" in snapshot.fault
    assert not snapshot.hangs
    assert replace(snapshot, pass_seconds=HUNG_PASS + 1).hangs
    assert replace(snapshot, pass_seconds=LONG_PASS).fault is None
    assert (
        replace(snapshot, pass_seconds=0.0, engine_fault="the server is away").fault == "the server is away"
    )


async def generate_and_scrape(served: Served, model: str) -> tuple[Samples, Samples]:
    """The metrics of the agent and of the worker after a generation."""
    port = free_port()
    config = AgentConfig(
        broker=served.broker.url,
        model=model,
        max_tokens=40,
        seed=1,
        temperature=1.0,
        device="tablet",
        metrics_port=port,
    )
    async with EdgeAgent.open(config) as agent:
        midway: Samples = {}
        async for _ in agent.generate("turn on the kitchen light"):
            if not midway.get("hlm_worker_cached_tokens"):  # skipped tokens can outrun the first pass
                midway = await asyncio.to_thread(lambda: served.metrics)
        assert midway["hlm_worker_cached_tokens"] > 0
        assert midway["hlm_worker_sessions"] == 1
        assert 0 < midway["hlm_worker_cache_used_pages"] < midway["hlm_worker_cache_pages"]
        worker = await asyncio.to_thread(lambda: served.metrics)
        _, text = await asyncio.to_thread(get, f"http://127.0.0.1:{port}/metrics")
    assert 'device="tablet"' in text
    return samples(text), worker


def test_a_port_that_is_taken_is_one_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        command = [sys.executable, "-m", "cloud_worker", "run", "--metrics-port", port]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("cloud-worker: cannot serve metrics on 127.0.0.1:")
    assert done.stderr.count("\n") == 1
