"""Devices that ask one prompt after another, an agent process each, until they are told to end."""

import json
import os
import subprocess
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from benchmarks.rolling_upgrade.releases import Release

STOP_TIMEOUT = 60.0


@dataclass(frozen=True, slots=True)
class Case:
    """What decides a text: the device's release, its scheme and its prompt. Seeds and models are the same."""

    release: str
    scheme: str
    prompt: str


@dataclass
class Device:
    """An agent process and the thread that asks it; `with Device(...)` starts both."""

    release: Release
    scheme: str
    broker_url: str
    name: str
    prompts: Sequence[str]
    texts: dict[Case, set[str]] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    num_asked: int = 0
    num_answered: int = 0
    num_resent: int = 0
    slowest: float = 0.0
    _ending: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Self:
        flags = ["--broker", self.broker_url, "--device", self.name, "--scheme", self.scheme, "--seed", "7"]
        flags += ["--temperature", "1", "--json", "--on-cloud-loss", "wait", "--model", "demo"]
        self._process = subprocess.Popen(
            self.release.command("edge_agent", "generate", *self.release.lines, *flags),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            bufsize=1,
            env={**os.environ, **self.release.environment},
        )
        self._thread = threading.Thread(target=self._ask_on, name=self.name, daemon=True)
        self._thread.start()
        return self

    def end(self) -> None:
        """Ask no more; returns when the last answer is complete and the process has ended."""
        self._ending.set()
        self._thread.join(STOP_TIMEOUT)
        _, errors = self._process.communicate(timeout=STOP_TIMEOUT)
        if self._process.returncode:
            lines = errors.strip().splitlines() or ["no message"]
            self.failures.append(f"exit code {self._process.returncode}: {lines[-1]}")

    def forget_times(self) -> None:
        """Measure the slowest answer from now on."""
        self.slowest = 0.0

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def _ask_on(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        while not self._ending.is_set():
            prompt = self.prompts[self.num_asked % len(self.prompts)]
            self.num_asked += 1
            self._process.stdin.write(f"{prompt}\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
            if not line:  # `end` reports why
                return
            report = json.loads(line)
            if report.get("error"):
                self.failures.append(report["error"])
            self.texts.setdefault(Case(self.release.name, self.scheme, prompt), set()).add(report["text"])
            self.num_resent += report["num_resent"]
            self.slowest = max(self.slowest, report["seconds"])
            self.num_answered += 1
