"""Measure what a message, a ping and a connection cost mosquitto, and how long one hop takes.

    python -m benchmarks.broker_load

Devices and workers are bare connections that write prepared packets, so the figures describe the broker and
not this program: the broker's processor time per message, which other processes do not affect. A device sends
80 bytes to a worker's topic and the worker sends them back, one message in flight per device. Linux only.
"""

import asyncio
import random
import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from evaluation.help_format import command_parser
from evaluation.local.broker import LocalBroker
from evaluation.local.process_time import cpu_seconds, resident_bytes

PAYLOAD = bytes(80)  # the size of a draft of one token with 16 ids
NUM_WORKERS = 4
PING = bytes([0xC0, 0])
IDLE_RATE = 200.0  # messages per second at which the latency of a hop is measured


def _packet(first: int, body: bytes) -> bytes:
    length, size = bytearray(), len(body)
    while True:
        size, digit = divmod(size, 128)[0], size % 128
        length.append(digit | (128 if size else 0))
        if not size:
            return bytes([first]) + bytes(length) + body


def _text(text: str) -> bytes:
    return len(text).to_bytes(2, "big") + text.encode()


def publish(topic: str, payload: bytes = PAYLOAD) -> bytes:
    """Return a whole PUBLISH packet of MQTT 5, QoS 0, without properties."""
    return _packet(0x30, _text(topic) + b"\0" + payload)


class Connection(asyncio.Protocol):
    """An MQTT 5 client with one subscription; `arrived` is set by each message and each ping response."""

    def __init__(self, name: str, topic: str) -> None:
        self.num_arrived = 0
        self.replies: bytes | None = None  # what a worker sends back for each message
        self.arrived: asyncio.Event = asyncio.Event()
        self._hello = _packet(0x10, _text("MQTT") + bytes([5, 2, 0, 0, 0]) + _text(name))
        self._hello += _packet(0x82, bytes([0, 1, 0]) + _text(topic) + b"\0")
        self._buffer = b""
        self.ready: asyncio.Event = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send CONNECT and SUBSCRIBE."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.write(self._hello)

    def data_received(self, data: bytes) -> None:
        """Split the stream into packets."""
        self._buffer += data
        while (end := self._packet_end()) is not None:
            kind, self._buffer = self._buffer[0] >> 4, self._buffer[end:]
            if kind == 9:
                self.ready.set()
            elif kind in (3, 13):
                self.num_arrived += 1
                self.arrived.set()
                if self.replies is not None:
                    self.transport.write(self.replies)

    def _packet_end(self) -> int | None:
        size, shift = 0, 0
        for index, digit in enumerate(self._buffer[1:5], start=2):
            size |= (digit & 127) << shift
            if digit < 128:
                return index + size if len(self._buffer) >= index + size else None
            shift += 7
        return None


@dataclass(frozen=True, slots=True)
class Load:
    """What this many connections cost; times in seconds, `rate` in messages per second."""

    num_devices: int
    rate: float
    per_message: float
    hop_p50: float
    hop_p99: float


async def connect(port: int, names: Sequence[str], topics: Sequence[str]) -> list[Connection]:
    """Open one connection per name, each subscribed to its topic."""
    loop = asyncio.get_running_loop()
    opened: list[Connection] = []
    for name, topic in zip(names, topics, strict=True):
        _, connection = await loop.create_connection(
            lambda n=name, t=topic: Connection(n, t), "127.0.0.1", port
        )
        opened.append(connection)
    for connection in opened:
        await asyncio.wait_for(connection.ready.wait(), 30)
    return opened


class Crowd:
    """Devices and the workers; each device sends to one of the workers."""

    def __init__(self, devices: list[Connection], workers: list[Connection]) -> None:
        self.devices, self.workers = devices, workers

    @classmethod
    async def open(cls, port: int, num_devices: int) -> "Crowd":
        """Connect all of them."""
        names = [f"w{number}" for number in range(num_devices)]
        devices = await connect(
            port, [f"d{number}" for number in range(num_devices)], [f"down/{n}" for n in names]
        )
        echoes = await connect(
            port, [f"w{n}" for n in range(NUM_WORKERS)], [f"up/{n}/+" for n in range(NUM_WORKERS)]
        )
        return cls(devices, echoes)

    def topic(self, number: int) -> str:
        """Return the topic that a device sends to."""
        return f"up/{number % NUM_WORKERS}/{number}"

    def close(self) -> None:
        """Close every connection."""
        for connection in (*self.devices, *self.workers):
            connection.transport.abort()


async def one_way(crowd: Crowd, seconds: float, rng: random.Random) -> list[float]:
    """Return latencies of single hops from devices to workers, at a rate that leaves the broker idle."""
    hops: list[float] = []
    ends = time.perf_counter() + seconds
    while time.perf_counter() < ends:
        number = rng.randrange(len(crowd.devices))
        worker = crowd.workers[number % NUM_WORKERS]
        worker.arrived.clear()
        began = time.perf_counter()
        crowd.devices[number].transport.write(publish(crowd.topic(number)))
        await asyncio.wait_for(worker.arrived.wait(), 10)
        hops.append(time.perf_counter() - began)
        await asyncio.sleep(rng.expovariate(IDLE_RATE))
    return hops


async def flood(crowd: Crowd, pid: int, num_messages: int, at_once: int) -> tuple[float, float]:
    """Return messages per second and the broker's processor seconds per message, `at_once` in flight."""
    before, began = cpu_seconds(pid), time.perf_counter()
    start = sum(worker.num_arrived for worker in crowd.workers)
    num_sent = 0
    while num_sent < num_messages:
        count = min(at_once, num_messages - num_sent)
        for number in range(num_sent, num_sent + count):
            crowd.devices[number % len(crowd.devices)].transport.write(publish(crowd.topic(number)))
        num_sent += count
        while sum(worker.num_arrived for worker in crowd.workers) - start < num_sent:
            await asyncio.sleep(0)
    seconds = time.perf_counter() - began
    return num_messages / seconds, (cpu_seconds(pid) - before) / num_messages


async def pings(crowd: Crowd, pid: int, rounds: int) -> float:
    """Return the broker's processor seconds per ping; every device pings once per round."""
    before = cpu_seconds(pid)
    for _ in range(rounds):
        start = sum(device.num_arrived for device in crowd.devices)
        for device in crowd.devices:
            device.transport.write(PING)
        while sum(device.num_arrived for device in crowd.devices) - start < len(crowd.devices):
            await asyncio.sleep(0)
    return (cpu_seconds(pid) - before) / rounds / len(crowd.devices)


async def measure(
    broker: LocalBroker, num_devices: int, num_messages: int, seconds: float
) -> tuple[Load, list[float], float, float]:
    """Return the load, the hops, the seconds per ping and the bytes per connection."""
    pid = broker.pid
    empty = resident_bytes(pid)
    crowd = await Crowd.open(broker.port, num_devices)
    try:
        held = (resident_bytes(pid) - empty) / (num_devices + NUM_WORKERS)
        hops = await one_way(crowd, seconds, random.Random(1))
        rate, per_message = await flood(crowd, pid, num_messages, min(64, num_devices))
        per_ping = await pings(crowd, pid, max(1, num_messages // num_devices))
    finally:
        crowd.close()
    cuts = statistics.quantiles(hops, n=100)
    return Load(num_devices, rate, per_message, cuts[49], cuts[98]), hops, per_ping, held


def broker_time(
    num_devices: Sequence[int], num_messages: int, seconds: float
) -> tuple[dict[str, object], list[Load]]:
    """The section `broker` of the fleet's inputs, from the largest number of devices; and all loads."""
    loads, hops, per_ping, held = list[Load](), list[float](), 0.0, 0.0
    for count in num_devices:
        with LocalBroker(settings=["max_connections -1"]) as broker:
            load, hops, per_ping, held = asyncio.run(measure(broker, count, num_messages, seconds))
        loads.append(load)
    cuts = [round(cut, 7) for cut in statistics.quantiles(hops, n=100)]
    return {
        "per_message": loads[-1].per_message,
        "per_ping": per_ping,
        "hops": cuts,
        "connection_bytes": held,
        "source": f"mosquitto with {num_devices[-1]} connections, {len(PAYLOAD)} bytes per message, QoS 0",
        "loads": [asdict(each) for each in loads],
    }, loads


def main() -> None:
    """Measure and print."""
    parser = command_parser("benchmarks.broker_load", __doc__)
    parser.add_argument(
        "--devices", type=int, nargs="+", default=[10, 100, 1000, 4000], help="connections, one row each"
    )
    parser.add_argument("--messages", type=int, default=40_000, help="messages at full speed, per row")
    parser.add_argument("--seconds", type=float, default=5.0, help="how long to measure latencies, per row")
    flags = parser.parse_args()
    found, loads = broker_time(flags.devices, flags.messages, flags.seconds)
    print(f"{'devices':>8} {'messages/s':>11} {'cpu us':>8} {'hop p50 us':>11} {'hop p99 us':>11}")
    for load in loads:
        times = f"{1e6 * load.per_message:8.1f} {1e6 * load.hop_p50:11.0f} {1e6 * load.hop_p99:11.0f}"
        print(f"{load.num_devices:8d} {load.rate:11.0f} {times}")
    print(
        f"{1e6 * float(str(found['per_ping'])):.1f} us per ping; "
        f"{found['connection_bytes']:.0f} bytes per connection"
    )


if __name__ == "__main__":
    main()
