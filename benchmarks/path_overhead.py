"""What the path costs: a verification by a target that answers at once, against a bare MQTT echo.

    python -m benchmarks.path_overhead

Both in one run, in turn, through the same broker with another process at the far end: aiomqtt echoing a
payload of the same size, and a worker with a scripted target. Medians of round trips, and their ratio.
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
from evaluation.local.broker import LocalBroker
from evaluation.local.worker import LocalWorker

PAYLOAD = bytes(80)  # a draft of one token with 16 ids is as long
NO_DELAY = [(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)]


def client(port: int) -> aiomqtt.Client:
    """A plain client, with the one option without which everything takes 40 ms."""
    return aiomqtt.Client("127.0.0.1", port, protocol=aiomqtt.ProtocolVersion.V5, socket_options=NO_DELAY)


async def echo(port: int) -> None:
    """The far end of the comparison: send everything back."""
    async with client(port) as connection:
        await connection.subscribe("there")
        print("listening", flush=True)
        async for message in connection.messages:
            await connection.publish("back", message.payload)


async def echo_round_trips(port: int, count: int) -> list[float]:
    """Seconds of each echo."""
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
    """Seconds of each verification of a one-token draft."""
    async with Device.open(LinkSettings(url=broker_url), "device") as device:
        await device.generate(count, block_length=1)
        return device.latencies


async def measure(broker: LocalBroker, rounds: int, count: int) -> tuple[list[float], list[float]]:
    """Medians of each round, echo and verification in turn."""
    echoes, verifications = list[float](), list[float]()
    for _ in range(rounds):
        echoes.append(statistics.median(await echo_round_trips(broker.port, count)))
        verifications.append(statistics.median(await verification_round_trips(broker.url, count)))
    return echoes, verifications


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.path_overhead", description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--count", type=int, default=300, help="round trips a round")
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
            other.stdout.readline()  # it has subscribed
            echoes, verifications = asyncio.run(measure(broker, flags.rounds, flags.count))
        finally:
            other.terminate()
            other.wait()
    ratios = [ours / bare for bare, ours in zip(echoes, verifications, strict=True)]
    print(f"medians of {flags.rounds} rounds of {flags.count}:")
    print(f"bare aiomqtt echo:         {1000 * statistics.median(echoes):6.2f} ms")
    print(f"verification round trip:   {1000 * statistics.median(verifications):6.2f} ms")
    spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
    print(f"ratio, round by round:     {statistics.median(ratios):6.2f} ({spread})")


if __name__ == "__main__":
    main()
