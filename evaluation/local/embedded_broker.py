"""A broker from PyPI for the demo, where mosquitto is missing and cannot be installed.

Law: it is for this machine and for the demo only. iotcore (rumqttd) has no access rules here, does not report
an empty pool, and adds some 40 ms to the first token; docs/brokers.md has what was measured.
"""

import importlib.util
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from common.protocol.limits import MAX_PAYLOAD_BYTES
from evaluation.local.broker import START_TIMEOUT, STOP_TIMEOUT, BrokerError, accepts, free_port
from evaluation.local.ending import close_on_sigterm, stop_process

LACKS = "the first token comes 40 ms later, an empty pool is not reported, there are no access rules"
ROOM = 1024  # bytes of a packet beyond its payload, as in mosquitto/development.conf


class EmbeddedBroker:
    """`with EmbeddedBroker() as broker: ... broker.url ...`; it stops with the block that started it."""

    program = "iotcore"

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="broker-")
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @staticmethod
    def is_installed() -> bool:
        """Whether the package iotcore is there."""
        return importlib.util.find_spec("iotcore") is not None

    @property
    def url(self) -> str:
        """The URL of the broker, as LinkSettings takes it."""
        return f"mqtt://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        close_on_sigterm()
        conf, log = Path(self._folder.name, "broker.toml"), Path(self._folder.name, "broker.log")
        conf.write_text(configuration(self.port))
        command = [sys.executable, "-m", "iotcore", "--config", str(conf), "--log-level", "CRITICAL"]
        with log.open("wb") as output:
            self._process = subprocess.Popen(command, stdout=output, stderr=output, stdin=subprocess.DEVNULL)
        deadline = time.monotonic() + START_TIMEOUT
        while not accepts(self.port):
            if self._process.poll() is not None or time.monotonic() > deadline:
                lines = log.read_text(errors="replace").strip().splitlines() or ["no error in its log"]
                self._stop()
                raise BrokerError(f"iotcore does not start ({lines[-1]})")
            time.sleep(0.01)
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self._stop()

    def _stop(self) -> None:
        if self._process is not None:
            stop_process(self._process, STOP_TIMEOUT)
        self._folder.cleanup()


def configuration(port: int) -> str:
    """rumqttd's configuration: MQTT 5 on loopback, with our largest packet."""
    return f"""id = 0
[router]
id = 0
max_connections = 1000
max_outgoing_packet_count = 200
max_segment_size = 104857600
max_segment_count = 10
[v5.1]
name = "demo"
listen = "127.0.0.1:{port}"
next_connection_delay_ms = 1
[v5.1.connections]
connection_timeout_ms = 60000
max_payload_size = {MAX_PAYLOAD_BYTES + ROOM}
max_inflight_count = 200
dynamic_filters = true
"""
