"""`edge-agent serve` as a process, started as a user would start it."""

import subprocess
import sys
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

from evaluation.local.broker import free_port
from tests.support.waiting import until

READY = "edge-agent: ready"
STOP_TIMEOUT = 30.0


class ServingAgent:
    """`with ServingAgent(broker.url) as agent: ... agent.url ...`; the same ports after each start."""

    def __init__(self, broker_url: str, *arguments: str, device: str = "kitchen") -> None:
        self.port, self.ollama_port = free_port(), free_port()
        self.device = device
        self._temporary = tempfile.TemporaryDirectory(prefix="agent-")
        self._command = [
            *(sys.executable, "-m", "edge_agent", "serve", "--broker", broker_url, "--device", device),
            *("--http-port", str(self.port), "--ollama-port", str(self.ollama_port), *arguments),
        ]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        """Its output since the last start."""
        return self._log_file.read_text(errors="replace")

    def start(self, *more: str) -> None:
        """Start it, with more flags, and wait until it serves."""
        with self._log_file.open("wb") as log:
            self._process = subprocess.Popen(
                [*self._command, *more], stdout=log, stderr=log, stdin=subprocess.DEVNULL
            )

        def is_ready() -> bool:
            assert self._process is not None
            assert self._process.poll() is None, self.log
            return READY in self.log

        until(is_ready, lambda: self.log)

    def stop(self) -> int:
        """Send SIGTERM, as systemd does; the exit code."""
        assert self._process is not None
        self._process.terminate()
        return self._process.wait(STOP_TIMEOUT)

    def kill(self) -> None:
        """Stop at once (SIGKILL)."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        if self._process is not None and self._process.poll() is None:
            self.kill()
        self._temporary.cleanup()

    @property
    def _log_file(self) -> Path:
        return Path(self._temporary.name) / "agent.log"
