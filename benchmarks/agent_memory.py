"""Measure the memory of an agent on a real graph, up to a number of positions.

    python -m benchmarks.agent_memory --model FOLDER [--positions 2048]

An `edge-agent generate` reads prompts of 64, 512 and nearly `--positions` tokens and answers each, `lossless`
without a cloud, so that all that a device needs is loaded. Sampled every 20 ms: resident memory, of which
"anonymous" is the process's own and "file" are mapped files, whose pages the kernel can drop and read again.
The peak is the kernel's own (VmHWM). "Rest" is a peak less the graph's files and the cache.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.draft_step.generations import TEXT
from common.process.paths import path_flag
from edge_agent.draft_model.draft_model import DraftModel
from edge_agent.draft_model.files import ModelInfo, read_info
from edge_agent.text.tokenizer import Text
from evaluation.help_format import command_parser

MB = 1_000_000
INTERVAL = 0.02  # seconds
NUM_ANSWERED = 8  # tokens of each answer
OFFLINE = ("--broker", "mqtt://127.0.0.1:1", "--on-cloud-loss", "local", "--cloud-timeout", "0.1")


@dataclass(slots=True)
class Peaks:
    """The largest of each figure of /proc/PID/status, in bytes."""

    largest: dict[str, int] = field(default_factory=dict[str, int])

    def take(self, pid: int) -> None:
        """Sample a process; one that has ended has no figures."""
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            name, _, value = line.partition(":")
            if name in ("VmHWM", "VmRSS", "RssAnon", "RssFile"):
                number = 1024 * int(value.split()[0])
                self.largest[name] = max(number, self.largest.get(name, 0))


def prompts(info: ModelInfo, num_positions: int) -> list[str]:
    """Texts of about 64, 512 and nearly `num_positions` tokens, never more than leave room for an answer."""
    text = Text.load(info)
    tokens = text.encode(TEXT)
    lengths = sorted({min(length, num_positions - NUM_ANSWERED) for length in (64, 512, num_positions)})
    found: list[str] = []
    for length in lengths:
        kept = (tokens * (length // len(tokens) + 1))[:length]
        while len(text.encode(text.decode(kept))) > length:
            kept.pop()
        found.append(text.decode(kept))
    return found


def run_agent(flags: argparse.Namespace, texts: list[str]) -> tuple[Peaks, list[dict[str, object]], float]:
    """Run the agent on these prompts; its peaks, its reports, and seconds."""
    command = [
        sys.executable, "-m", "edge_agent", "generate", "--model", str(flags.model), "--jsonl", "-", "--raw",
        "--json", "--scheme", "lossless", *OFFLINE, "--max-tokens", str(NUM_ANSWERED),
        "--num-threads", str(flags.threads), "--seed", "1",
    ]  # fmt: skip
    peaks, began = Peaks(), time.monotonic()
    with tempfile.TemporaryFile("w+") as given, tempfile.TemporaryFile("w+") as printed:
        given.write("".join(json.dumps(text) + "\n" for text in texts))
        given.seek(0)
        with subprocess.Popen(command, stdin=given, stdout=printed) as process:
            while process.poll() is None:
                peaks.take(process.pid)
                time.sleep(INTERVAL)
        printed.seek(0)
        return peaks, [json.loads(line) for line in printed], time.monotonic() - began


def main() -> None:
    """Measure and print."""
    parser = command_parser("benchmarks.agent_memory", __doc__)
    parser.add_argument("--model", type=path_flag, required=True, help="a graph's folder")
    parser.add_argument("--positions", type=int, default=2048, help="the most positions in the cache")
    parser.add_argument("--threads", type=int, default=1, help="threads of the draft model")
    flags = parser.parse_args()
    info = read_info(flags.model)
    peaks, reports, seconds = run_agent(flags, prompts(info, flags.positions))
    cache = DraftModel.load(flags.model).position_bytes * flags.positions
    expected = info.num_bytes + cache
    print(f"{flags.model.name}, {flags.positions} positions, {len(reports)} answers in {seconds:.1f} s")
    print(f"graph {info.num_bytes / MB:.1f} MB, cache {cache / MB:.1f} MB")
    peak = peaks.largest["VmHWM"]
    for name, value in (
        ("peak", peak),
        ("most anonymous", peaks.largest["RssAnon"]),
        ("most file", peaks.largest["RssFile"]),
        ("rest of the peak", peak - expected),
    ):
        print(f"{name:16} {value / MB:7.1f} MB")


if __name__ == "__main__":
    main()
