"""`make serve`: one command starts all parts of the demo, and ends all of them."""

import json
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from evaluation.local.broker import free_port

PATIENCE = 60.0


def descendants(pid: int) -> set[int]:
    """The processes that this one has started, and theirs."""
    children = {
        int(each)
        for task in Path(f"/proc/{pid}/task").iterdir()
        for each in (task / "children").read_text().split()
    }
    return children.union(*(descendants(child) for child in children))


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_one_command_serves_the_demo_and_one_signal_ends_all_of_it(number: signal.Signals) -> None:
    port = free_port()
    command = [sys.executable, "-m", "evaluation.demo", "--serve", "--port", str(port)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as demo:
        assert demo.stderr is not None
        assert any(f"ready at http://127.0.0.1:{port}" in line for line in demo.stderr)
        started = descendants(demo.pid)
        assert len(started) >= 3
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=10) as page:
            assert json.load(page)["cloud"] is True
        demo.send_signal(number)
        assert demo.wait(PATIENCE) in (130, 143)
        assert "Traceback" not in demo.stderr.read()
    end = time.monotonic() + PATIENCE
    while any(Path(f"/proc/{pid}").exists() for pid in started):
        assert time.monotonic() < end
        time.sleep(0.05)
