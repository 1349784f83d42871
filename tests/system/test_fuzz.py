"""The fuzzer itself works: it starts its attackers, and what they send is accounted for."""

import subprocess
import sys

import pytest


@pytest.mark.slow
def test_a_short_fuzz_reaches_the_worker_and_finds_no_fault() -> None:
    command = [sys.executable, "-m", "benchmarks.fuzz", "--messages", "3000", "--limited", "600"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "messages reached the worker: no fault" in done.stdout
