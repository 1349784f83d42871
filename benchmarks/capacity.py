"""Measure how many sessions one worker carries, and how throughput grows with more workers.

    python -m benchmarks.capacity

The first table: one worker whose forward pass takes a fixed time, and 1 to 64 sessions that verify blocks
without a pause; latencies are those of a correction, as the device sees it. The second table: 1, 2, 4 and 8
workers with 8 sessions each. Broker, links, codec, scheduler and the devices' state machines are real and run
in real processes; only the models are scripted. Everything shares this machine, which limits the second
table.
"""

import argparse
import asyncio
import statistics
import sys
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack

from benchmarks.support.device import Device
from common.link import LinkSettings
from evaluation.help_format import command_parser
from evaluation.local.broker import LocalBroker
from evaluation.local.worker import LocalWorkers

BLOCK_LENGTH = 4


async def load(broker_url: str, num_devices: int, num_tokens: int) -> tuple[list[float], float]:
    """Return latencies in seconds, and the tokens per second of all devices together."""
    settings = LinkSettings(url=broker_url)
    async with AsyncExitStack() as stack:
        devices = [
            await stack.enter_async_context(Device.open(settings, f"device{number}"))
            for number in range(num_devices)
        ]
        began = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for device in devices:
                group.create_task(device.generate(num_tokens, block_length=BLOCK_LENGTH))
        seconds = time.monotonic() - began
    latencies = [latency for device in devices for latency in device.latencies]
    return latencies, sum(device.num_tokens for device in devices) / seconds


def measure(num_workers: int, num_devices: int, flags: argparse.Namespace) -> tuple[list[float], float]:
    """Put one load on a new broker with new workers."""
    program = [sys.executable, "-m", "benchmarks.support.scripted", "--pass-ms", str(flags.pass_ms)]
    names = [f"worker{number}" for number in range(num_workers)]
    with LocalBroker() as broker, LocalWorkers(broker.url, names=names, program=program):
        return asyncio.run(load(broker.url, num_devices, flags.tokens))


def line(name: str, latencies: Sequence[float], rate: float) -> str:
    """Return a row: p50 and p99 of the latency, and the throughput."""
    cuts = statistics.quantiles(latencies, n=100)
    return f"{name:>12} {1000 * cuts[49]:9.1f} {1000 * cuts[98]:9.1f} {rate:10.0f}"


def main() -> None:
    """Measure and print."""
    parser = command_parser("benchmarks.capacity", __doc__)
    parser.add_argument("--pass-ms", type=float, default=60.0, help="how long a forward pass takes")
    parser.add_argument("--tokens", type=int, default=60, help="tokens per session")
    flags = parser.parse_args()
    heads = f"{'p50 ms':>9} {'p99 ms':>9} {'tokens/s':>10}"
    print(f"{'sessions':>12} {heads}", flush=True)
    for num_devices in (1, 2, 4, 8, 16, 32, 64):
        print(line(str(num_devices), *measure(1, num_devices, flags)), flush=True)
    print(f"\n{'workers x 8':>12} {heads}", flush=True)
    for num_workers in (1, 2, 4, 8):
        print(line(str(num_workers), *measure(num_workers, 8 * num_workers, flags)), flush=True)


if __name__ == "__main__":
    main()
