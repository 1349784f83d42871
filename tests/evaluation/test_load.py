"""The load generator against a real broker and a real worker."""

import subprocess
import sys

import pytest

from evaluation.local.broker import LocalBroker
from evaluation.local.worker import LocalWorker


@pytest.mark.slow
def test_the_load_generator_presses_a_real_pool_and_says_what_it_saw(broker: LocalBroker) -> None:
    with LocalWorker(broker.url):
        run = press("--broker", broker.url, "--devices", "3", "--seconds", "1", "--tokens", "8")
    assert run.returncode == 0, run.stderr
    assert "3 devices" in run.stdout
    assert "correction latency: p50" in run.stdout


def test_a_broker_that_is_not_there_is_one_sentence() -> None:
    run = press("--broker", "mqtt://127.0.0.1:9")
    assert run.returncode == 1
    assert run.stderr.startswith("load: no broker at 127.0.0.1:9")
    assert run.stderr.count("\n") == 1


def press(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks.load", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
