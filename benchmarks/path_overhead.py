"""Measure what the path costs: a verification by a target that answers at once, against a bare MQTT echo.

    python -m benchmarks.path_overhead

Both go through the same broker in turn, with another process at the far end: aiomqtt echoing a payload of the
same size, and a worker with a scripted target. The medians of the round trips and their ratio are printed.
"""

import argparse
import asyncio
import socket
import statistics
import subprocess
import sys
import time

import aiomqtt

from benchmarks.support.device import Device
from common.link import LinkSettings
from evaluation.help_format import command_parser
from evaluation.local.broker import LocalBroker
from evaluation.local.worker import LocalWorker

PAYLOAD = bytes(80)  # the size of a draft of one token with 16 ids
NO_DELAY = [(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)]


def client(port: int) -> aiomqtt.Client:
    """Return a plain client with TCP_NODELAY, without which every message takes 40 ms."""
    return aiomqtt.Client("127.0.0.1", port, protocol=aiomqtt.ProtocolVersion.V5, socket_options=NO_DELAY)


async def echo(port: int) -> None:
    """Run the far end of the comparison: send everything back."""
    async with client(port) as connection:
        await connection.subscribe("there")
        print("listening", flush=True)
        async for message in connection.messages:
            await connection.publish("back", message.payload)


async def echo_round_trips(port: int, count: int) -> list[float]:
    """Return the seconds of each echo."""
    async with client(port) as connection:
        await connection.subscribe("back")
        messages, seconds = aiter(connection.messages), list[float]()
        for _ in range(count):
            began = time.perf_counter()
            await connection.publish("there", PAYLOAD)
            await anext(messages)
            seconds.append(time.perf_counter() - began)
        return seconds


async def verification_round_trips(broker_url: str, count: int) -> list[float]:
    """Return the seconds of each verification of a one-token draft."""
    async with Device.open(LinkSettings(url=broker_url), "device") as device:
        await device.generate(count, block_length=1)
        return device.latencies


async def measure(broker: LocalBroker, rounds: int, count: int) -> tuple[list[float], list[float]]:
    """Return the median of each round; echoes and verifications take turns."""
    echoes, verifications = list[float](), list[float]()
    for _ in range(rounds):
        echoes.append(statistics.median(await echo_round_trips(broker.port, count)))
        verifications.append(statistics.median(await verification_round_trips(broker.url, count)))
    return echoes, verifications


def main() -> None:
    """Measure and print."""
    parser = command_parser("benchmarks.path_overhead", __doc__)
    parser.add_argument("--rounds", type=int, default=7, help="rounds of both")
    parser.add_argument("--count", type=int, default=300, help="round trips per round")
    parser.add_argument("--echo", type=int, metavar="PORT", help=argparse.SUPPRESS)
    flags = parser.parse_args()
    if flags.echo:
        asyncio.run(echo(flags.echo))
        return
    program = [sys.executable, "-m", "benchmarks.support.scripted"]
    with LocalBroker() as broker, LocalWorker(broker.url, program=program):
        command = [sys.executable, "-m", "benchmarks.path_overhead", "--echo", str(broker.port)]
        other = subprocess.Popen(command, stdout=subprocess.PIPE)
        try:
            assert other.stdout is not None
            other.stdout.readline()  # wait until it has subscribed
            echoes, verifications = asyncio.run(measure(broker, flags.rounds, flags.count))
        finally:
            other.terminate()
            other.wait()
    ratios = [ours / bare for bare, ours in zip(echoes, verifications, strict=True)]
    print(f"medians of {flags.rounds} rounds of {flags.count}:")
    print(f"bare aiomqtt echo:         {1000 * statistics.median(echoes):6.2f} ms")
    print(f"verification round trip:   {1000 * statistics.median(verifications):6.2f} ms")
    spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
    print(f"ratio within a round:      {statistics.median(ratios):6.2f} ({spread})")


if __name__ == "__main__":
    main()
