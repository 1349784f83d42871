"""`edge-agent serve` as a process, started as a user would start it."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.message import Message
from types import TracebackType
from typing import Any, Self

from evaluation.local.broker import free_port
from tests.support.waiting import until

START_TIMEOUT = 60.0
READY = "ready at "


@dataclass(frozen=True)
class Reply:
    """An HTTP answer."""

    status: int
    headers: "Message[str, str]"
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class ServingAgent:
    """`with ServingAgent("--broker", broker.url) as agent: ...`; it ends with the block."""

    def __init__(self, *arguments: str, environment: Mapping[str, str] | None = None) -> None:
        self.port = free_port()
        command = [sys.executable, "-m", "edge_agent", "serve", "--http-port", str(self.port)]
        self._command = [*command, *arguments]
        self._environment = {**os.environ, **(environment or {})}
        self._process: subprocess.Popen[str] | None = None
        self._lines: list[str] = []
        self._is_ready = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        """What it wrote to standard error."""
        return "".join(self._lines)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self, *more: str) -> None:
        """Start it, with more flags, on the same port each time; `log` begins again."""
        self._lines, self._is_ready = [], threading.Event()
        self._process = subprocess.Popen(
            [*self._command, *more], stderr=subprocess.PIPE, text=True, env=self._environment
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        if not self._is_ready.wait(START_TIMEOUT) or self._process.poll() is not None:
            self.kill()
            raise AssertionError(f"serve did not start: {self.log}")

    def send(self, number: int = signal.SIGTERM) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def wait(self, timeout: float = 30.0) -> int:
        """The exit code, once it has ended by itself."""
        assert self._process is not None
        code = self._process.wait(timeout)
        self._reader.join(timeout)
        return code

    def stop(self) -> int:
        self.send()
        return self.wait()

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def resident_mb(self) -> float:
        with open(f"/proc/{self.pid}/status") as status:
            found = re.search(r"VmRSS:\s+(\d+) kB", status.read())
        assert found is not None
        return int(found[1]) / 1024

    def request(
        self,
        path: str,
        body: object = None,
        *,
        headers: Mapping[str, str] | None = None,
        method: str | None = None,
        port: int | None = None,
    ) -> Reply:
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{port or self.port}{path}", data, dict(headers or {}), method=method
        )
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return Reply(answer.status, answer.headers, answer.read())
        except urllib.error.HTTPError as error:
            return Reply(error.code, error.headers, error.read())

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        if self._process is not None and self._process.poll() is None:
            self.kill()

    def _read(self) -> None:
        assert self._process is not None
        assert self._process.stderr is not None
        lines, is_ready = self._lines, self._is_ready
        for line in self._process.stderr:
            lines.append(line)
            if READY in line:
                is_ready.set()
        is_ready.set()


def eventually(check: Callable[[], bool], timeout: float = 20.0) -> None:
    """Wait until `check()` is true."""
    until(check, "it did not happen in time", timeout)
