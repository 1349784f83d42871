"""Measure what `edge-agent serve` costs beside `edge-agent generate`, with the demo's draft model.

    python -m benchmarks.serving [--answers 30] [--broker URL]

Printed: seconds from the start to the first answer of /health; the time to import the HTTP parts; resident
memory of `serve` idle, after one answer and after `--answers`; the peak of `generate`; and the processor time
per token of an answer that is streamed, of one that is not, and of `generate`. Without a broker the scheme is
slm; with one it is lossless, and a worker must serve the pool demo.
"""

import argparse
import http.client
import json
import os
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from evaluation.help_format import command_parser
from evaluation.local.broker import free_port

PROMPT = "turn on the kitchen light"
TICKS = os.sysconf("SC_CLK_TCK")
IMPORT = (
    "import edge_agent.agent, edge_agent.service.service, time; began = time.perf_counter(); "
    "import edge_agent.http.serving; print(time.perf_counter() - began)"
)


def status_mb(pid: int, name: str) -> float:
    """A figure of /proc/PID/status in MiB."""
    found = re.search(rf"{name}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1]) / 1024


def cpu_seconds(pid: int) -> float:
    """Processor time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


class Client:
    """One connection that is kept."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)

    def ask(self, *, streams: bool, seed: int) -> int:
        """One answer; its tokens."""
        body = {"messages": [{"role": "user", "content": PROMPT}], "stream": streams, "seed": seed}
        self._connection.request("POST", "/v1/chat/completions", json.dumps(body))
        answer = self._connection.getresponse().read()
        if not streams:
            return int(json.loads(answer)["usage"]["completion_tokens"])
        return answer.count(b'"fate":')

    def is_healthy(self) -> bool:
        """Whether /health answers 200."""
        try:
            self._connection.request("GET", "/health")
            answer = self._connection.getresponse()
            answer.read()
        except OSError:
            self._connection.close()
            return False
        return answer.status == 200


def measure_serve(settings: list[str], num_answers: int) -> dict[str, Any]:
    """Start, ask and stop."""
    port, began = free_port(), time.monotonic()
    command = [sys.executable, "-m", "edge_agent", "serve", "--http-port", str(port), *settings]
    client, found = Client(port), dict[str, Any]()
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        try:
            while not client.is_healthy():
                time.sleep(0.005)
            found["start"] = time.monotonic() - began
            found["idle"] = status_mb(process.pid, "VmRSS")
            client.ask(streams=True, seed=1)
            found["after one"] = status_mb(process.pid, "VmRSS")
            for streams in (False, True):
                before, tokens = cpu_seconds(process.pid), 0
                for seed in range(num_answers):
                    tokens += client.ask(streams=streams, seed=seed)
                found["streamed" if streams else "whole"] = (cpu_seconds(process.pid) - before) / tokens
            found["after all"] = status_mb(process.pid, "VmRSS")
            found["peak"] = status_mb(process.pid, "VmHWM")
        finally:
            process.terminate()
    return found


def measure_generate(settings: list[str], num_answers: int) -> dict[str, float]:
    """The same answers from the lines of a pipe: peak memory, and processor time per token."""
    lines = "".join(json.dumps({"prompt": PROMPT, "seed": seed}) + "\n" for seed in range(num_answers))
    command = [sys.executable, "-m", "edge_agent", "generate", "-", "--jsonl", "--json", *settings]
    done = subprocess.run(command, input=lines, capture_output=True, text=True, check=True)
    reports: list[dict[str, Any]] = [json.loads(line) for line in done.stdout.splitlines()]
    return {
        "peak": max(one["peak_memory_mb"] for one in reports),
        "cpu": sum(one["seconds_cpu"] for one in reports) / sum(one["num_tokens"] for one in reports),
    }


def main() -> None:
    """Measure and print."""
    parser = command_parser("benchmarks.serving", __doc__)
    parser.add_argument("--answers", type=int, default=30, help="answers for each figure (default: 30)")
    parser.add_argument("--broker", help="ask the workers at this broker (default: scheme slm, without one)")
    flags: argparse.Namespace = parser.parse_args()
    settings = ["--broker", flags.broker] if flags.broker else ["--scheme", "slm"]
    imports = [
        float(subprocess.run([sys.executable, "-c", IMPORT], capture_output=True, check=True).stdout)
        for _ in range(5)
    ]
    served = measure_serve(settings, flags.answers)
    piped = measure_generate(settings, flags.answers)
    print(f"import of the HTTP parts: {1000 * statistics.median(imports):.0f} ms (median of 5)")
    print(f"start to the first answer of /health: {served['start']:.2f} s")
    memory = ", ".join(f"{name} {served[name]:.1f}" for name in ("idle", "after one", "after all", "peak"))
    print(f"resident memory in MiB: serve {memory}; generate's peak {piped['peak']:.1f}")
    print(
        f"processor time per token: streamed {1e6 * served['streamed']:.0f} us, whole "
        f"{1e6 * served['whole']:.0f} us, generate {1e6 * piped['cpu']:.0f} us"
    )


if __name__ == "__main__":
    main()
