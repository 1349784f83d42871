"""Emulate a bad network in front of a broker: a TCP proxy that delays, throttles and cuts connections.

    python -m benchmarks.support.link_emulator --to 127.0.0.1:1883 --listen 1884 --delay-ms 50 --rate-mbps 1
    python -m benchmarks.support.link_emulator --to 127.0.0.1:1883 --listen 1884 --trace up.csv # t_s,ul_mbps

Law: while a connection lives, bytes are never lost, changed or reordered, as with real TCP; a cut ends every
connection at once. A program sees exactly what it would see on a slow or broken link.
"""

import argparse
import asyncio
import bisect
import csv
import random
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from common.process.paths import path_flag
from evaluation.help_format import command_parser

CHUNK = 16_384


@dataclass(frozen=True, slots=True)
class Trace:
    """Measured capacity over time: `mbps[i]` applies from `times[i]` (seconds) on; the trace repeats."""

    times: Sequence[float]
    mbps: Sequence[float]

    @classmethod
    def read(cls, path: Path) -> "Trace":
        """Read a CSV file with the columns t_s and ul_mbps."""
        with path.open(newline="") as file:
            rows = [(float(row["t_s"]), float(row["ul_mbps"])) for row in csv.DictReader(file)]
        return cls([time for time, _ in rows], [mbps for _, mbps in rows])

    def at(self, seconds: float) -> float:
        """Return megabits per second at a time; at least 0.01, so that gaps in the trace are slow but end."""
        within = self.times[0] + seconds % max(1e-9, self.times[-1] - self.times[0])
        return max(0.01, self.mbps[bisect.bisect_right(self.times, within) - 1])


@dataclass(frozen=True, slots=True)
class Conditions:
    """One direction of a link: one-way delays in seconds, rate in megabits per second (None: no limit)."""

    delay: float = 0.0
    jitter: float = 0.0  # uniform, added to the delay
    rate_mbps: float | None = None
    trace: Trace | None = None

    def seconds_to_send(self, num_bytes: int, at: float) -> float:
        """Return how long the bytes occupy the line."""
        mbps = self.trace.at(at) if self.trace else self.rate_mbps
        return 8e-6 * num_bytes / mbps if mbps else 0.0


@dataclass(slots=True)
class LinkEmulator:
    """`async with LinkEmulator(host, port, up=..., down=...) as link`: connect to `link.port` instead.

    `up` is the direction towards the broker. `cut` ends all connections and refuses new ones for a while.
    """

    host: str
    broker_port: int
    up: Conditions = Conditions()
    down: Conditions = Conditions()
    port: int = 0
    num_bytes_up: int = 0
    num_bytes_down: int = 0
    _server: asyncio.Server | None = None
    _connections: set["asyncio.Task[None]"] = field(default_factory=set)
    _closed_until: float = 0.0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        await self._end_connections()

    @property
    def url(self) -> str:
        """The URL that agents and workers connect to."""
        return f"mqtt://127.0.0.1:{self.port}"

    async def cut(self, seconds: float = 0.0) -> None:
        """End every connection and refuse new ones for `seconds`."""
        self._closed_until = asyncio.get_running_loop().time() + seconds
        await self._end_connections()

    async def _end_connections(self) -> None:
        for connection in list(self._connections):
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            if asyncio.get_running_loop().time() >= self._closed_until:
                await self._join(reader, writer)
        except (OSError, asyncio.CancelledError):
            pass  # one side closed, or the line was cut
        finally:
            self._connections.discard(task)
            writer.transport.abort()

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        broker_reader, broker_writer = await asyncio.open_connection(self.host, self.broker_port)
        try:
            up = asyncio.create_task(self._carry(reader, broker_writer, self.up, is_up=True))
            down = asyncio.create_task(self._carry(broker_reader, writer, self.down, is_up=False))
            try:
                await asyncio.wait({up, down}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in (up, down):
                    task.cancel()
                await asyncio.gather(up, down, return_exceptions=True)
        finally:
            broker_writer.transport.abort()

    async def _carry(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        conditions: Conditions,
        *,
        is_up: bool,
    ) -> None:
        """Carry one direction: a reader stamps chunks with their arrival time, a writer waits until then."""
        loop = asyncio.get_running_loop()
        arriving: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

        async def read() -> None:
            line_free = arrives = loop.time()
            try:
                while data := await reader.read(CHUNK):
                    if is_up:
                        self.num_bytes_up += len(data)
                    else:
                        self.num_bytes_down += len(data)
                    start = max(loop.time(), line_free)
                    line_free = start + conditions.seconds_to_send(len(data), start)
                    delay = conditions.delay + conditions.jitter * random.random()
                    arrives = max(arrives, line_free + delay)  # TCP keeps the order
                    arriving.put_nowait((arrives, data))
            except ConnectionError:
                pass  # a reset ends the stream too, after the bytes before it have arrived
            finally:
                arriving.put_nowait((arrives, b""))

        reading = asyncio.create_task(read())
        try:
            while True:
                at, data = await arriving.get()
                await asyncio.sleep(at - loop.time())
                if not data:
                    return
                writer.write(data)
                await writer.drain()
        finally:
            reading.cancel()


def main() -> None:
    """Run until Ctrl-C."""
    parser = command_parser("benchmarks.support.link_emulator", __doc__)
    parser.add_argument("--to", default="127.0.0.1:1883", help="the broker")
    parser.add_argument("--listen", type=int, default=1884, help="port for agents and workers")
    parser.add_argument("--delay-ms", type=float, default=0.0, help="one-way delay in each direction")
    parser.add_argument("--jitter-ms", type=float, default=0.0, help="at most this is added to each delay")
    parser.add_argument("--rate-mbps", type=float, help="rate of each direction (default: no limit)")
    parser.add_argument(
        "--trace", type=path_flag, help="CSV file (t_s,ul_mbps) with the rate towards the broker"
    )
    parser.add_argument("--cut-every", type=float, help="seconds between cuts (default: none)")
    flags = parser.parse_args()
    with suppress(KeyboardInterrupt):
        asyncio.run(_run(flags))


async def _run(flags: argparse.Namespace) -> None:
    host, _, port = flags.to.rpartition(":")
    down = Conditions(flags.delay_ms / 1000, flags.jitter_ms / 1000, flags.rate_mbps)
    up = Conditions(
        down.delay, down.jitter, flags.rate_mbps, Trace.read(flags.trace) if flags.trace else None
    )
    async with LinkEmulator(host, int(port), up, down, port=flags.listen) as link:
        print(f"{link.url} leads to {flags.to}", flush=True)
        while True:
            await asyncio.sleep(flags.cut_every or 3600)
            if flags.cut_every:
                await link.cut(1.0)
                print("cut", flush=True)


if __name__ == "__main__":
    main()
