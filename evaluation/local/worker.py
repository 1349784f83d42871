"""A worker process on this machine, for tests, the demo and benchmarks.

Law: it is the real command, started as a user would start it. It stops with the block that started it.
"""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from evaluation.local.ending import close_on_sigterm

START_TIMEOUT = 120.0
STOP_TIMEOUT = 20.0
WORKER = (sys.executable, "-m", "cloud_worker", "run")
READY = "serves pool"  # in the worker's log once it is connected and subscribed


class WorkerError(Exception):
    """The local worker did not start; the message ends with its log."""


class LocalWorker:
    """`with LocalWorker(broker.url) as worker: ...`; `arguments` are more flags for `program`."""

    def __init__(
        self,
        broker_url: str,
        *arguments: str,
        name: str = "worker",
        folder: Path | None = None,
        environment: Mapping[str, str] | None = None,
        program: Sequence[str] = WORKER,
    ) -> None:
        self._temporary = None if folder else tempfile.TemporaryDirectory(prefix="worker-")
        self._folder = folder or Path(self._temporary.name if self._temporary else "")
        self._command = [*program, "--broker", broker_url, "--worker", name, *arguments]
        self._environment = dict(os.environ) | dict(environment or {})
        self._process: subprocess.Popen[bytes] | None = None
        self._num_starts = 0
        self.name = name

    @property
    def log(self) -> str:
        """The worker's output, over all its starts."""
        return self._log_file.read_text(errors="replace") if self._log_file.exists() else ""

    @property
    def pid(self) -> int:
        """The process id; only while the worker runs."""
        assert self._process is not None
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether the process has been started and has not ended."""
        return self._process is not None and self._process.poll() is None

    def launch(self) -> None:
        """Start the process without waiting for it."""
        close_on_sigterm()
        self._num_starts += 1
        with self._log_file.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=self._environment
            )

    def wait_ready(self) -> None:
        """Wait until it serves; WorkerError when it ends first or takes too long."""
        assert self._process is not None
        end = time.monotonic() + START_TIMEOUT
        while self.log.count(READY) < self._num_starts:
            if self._process.poll() is not None or time.monotonic() > end:
                self.kill()
                raise WorkerError(f"the worker did not start: {self.log.strip()[-500:]}")
            time.sleep(0.05)

    def stop(self, timeout: float = STOP_TIMEOUT) -> int:
        """Send SIGTERM, as an operator would; the exit code, or subprocess.TimeoutExpired."""
        assert self._process is not None
        self._process.terminate()
        return self._process.wait(timeout)

    def kill(self) -> None:
        """Stop at once (SIGKILL)."""
        assert self._process is not None
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def __enter__(self) -> Self:
        self.launch()
        self.wait_ready()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            self.kill()
        if self._temporary is not None:
            self._temporary.cleanup()

    @property
    def _log_file(self) -> Path:
        return self._folder / f"{self.name}.log"


class LocalWorkers:
    """Several workers, started at the same time; `workers[name]` is one of them."""

    def __init__(
        self, broker_url: str, *arguments: str, names: Sequence[str], program: Sequence[str] = WORKER
    ) -> None:
        self._workers = {
            name: LocalWorker(broker_url, *arguments, name=name, program=program) for name in names
        }
        self._stack = ExitStack()

    def __getitem__(self, name: str) -> LocalWorker:
        return self._workers[name]

    def __enter__(self) -> Self:
        for worker in self._workers.values():
            self._stack.push(worker)
            worker.launch()
        for worker in self._workers.values():
            worker.wait_ready()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._stack.close()
