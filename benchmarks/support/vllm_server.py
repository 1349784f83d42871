"""A real vLLM server on this machine's CPU, as an operator starts it for this engine.

`tests/support/install-vllm FOLDER` installs it.
"""

import os
import signal
import subprocess
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from evaluation.local.broker import free_port

START_TIMEOUT = 400.0
CPU = {
    "VLLM_CPU_KVCACHE_SPACE": "1",  # GiB
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_NO_USAGE_STATS": "1",
    "HF_HUB_OFFLINE": "1",
}


class VllmServerError(Exception):
    """It did not start; the message ends with its log."""


@dataclass
class VllmServer:
    """`with VllmServer(installed, model, folder) as server: server.url ...`; it may be restarted."""

    installed: Path
    model: Path
    folder: Path  # for its log
    arguments: tuple[str, ...] = ("--logprobs-mode", "processed_logprobs")
    num_threads: int = 1
    port: int = field(default_factory=free_port)
    _process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        return (self.folder / "vllm.log").read_text(errors="replace")

    def launch(self) -> None:
        """Start without waiting."""
        command = [str(self.installed / "bin" / "python"), "-m", "vllm.entrypoints.openai.api_server"]
        flags = ["--host", "127.0.0.1", "--port", str(self.port), "--model", str(self.model)]
        # a small block leaves little to compute again for each prefix; the CPU's kernels ask for 32
        sizes = ["--dtype", "float32", "--block-size", "32", "--enforce-eager", "--max-num-seqs", "64"]
        with (self.folder / "vllm.log").open("ab") as log:
            self._process = subprocess.Popen(
                [*command, *flags, *sizes, *self.arguments],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                env=os.environ | CPU | {"OMP_NUM_THREADS": str(self.num_threads)},
                start_new_session=True,  # its engine is a process of its own, which must end with it
            )

    def wait_ready(self) -> None:
        """Wait until it answers."""
        end = time.monotonic() + START_TIMEOUT
        while not self._answers():
            if time.monotonic() > end:
                raise VllmServerError(f"vLLM did not start: {self.log[-2000:]}")
            time.sleep(0.2)

    def kill(self) -> None:
        """End all its processes at once."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def _answers(self) -> bool:
        if self._process is None or self._process.poll() is not None:
            raise VllmServerError(f"vLLM ended: {self.log[-2000:]}")
        try:
            with urllib.request.urlopen(f"{self.url}/health", timeout=5) as response:
                return response.status == 200
        except (urllib.error.URLError, OSError):
            return False

    def __enter__(self) -> Self:
        self.launch()
        try:
            self.wait_ready()
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.kill()
