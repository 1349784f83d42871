"""Put load on a running pool: many devices with the agents' real protocol code, but without draft models.

    python -m benchmarks.load --broker mqtt://HOST --pool mine --model LARGE --devices 32 --seconds 60

Each device connects, generates one answer after another and waits for every correction. It claims the
vocabulary of `--model` (any folder or name that an agent takes), so that a real pool serves it. Its draft
tokens are made up: a real target rejects nearly all of them, so a block costs a verification and gains one
token. With an account of a production broker all devices share one name, and the worker's limits for one
device apply.
"""

import argparse
import asyncio
import secrets
import statistics
import sys
import time
from contextlib import AsyncExitStack

from benchmarks.support.device import Device, Place
from common.link import LinkError
from common.process.broker_config import BrokerConfig
from common.process.settings import CommandLine, SettingsError, add_flags, load
from common.protocol.topics import Topics
from edge_agent.config import ENV_PREFIX
from edge_agent.draft_model.files import read_info
from edge_agent.draft_model.source import resolve
from edge_agent.errors import ModelError
from edge_agent.text.tokenizer import Text
from evaluation.help_format import HelpFormatter


async def press(config: BrokerConfig, place: Place, flags: argparse.Namespace) -> list[Device]:
    """Run the devices for the set time and return them, with what each one measured."""
    async with AsyncExitStack() as stack:
        devices = [
            await stack.enter_async_context(
                Device.open(
                    config.link_settings(f"load-{secrets.token_hex(4)}"),
                    config.account_name or f"load{number}",
                    place,
                )
            )
            for number in range(flags.devices)
        ]
        end = time.monotonic() + flags.seconds
        async with asyncio.TaskGroup() as group:
            for device in devices:
                group.create_task(keep_busy(device, end, flags))
    return devices


async def keep_busy(device: Device, end: float, flags: argparse.Namespace) -> None:
    """Generate one text after another until `end`, or until one fails."""
    while time.monotonic() < end and device.failure is None:
        await device.generate(
            flags.tokens,
            block_length=flags.block_length,
            window=flags.window,
            draft_seconds=flags.draft_ms / 1000,
        )


def report(devices: list[Device], seconds: float) -> str:
    """Return what the devices measured, in words."""
    latencies = [latency for device in devices for latency in device.latencies]
    failures = sorted({device.failure for device in devices if device.failure})
    lines = [
        f"{len(devices)} devices, {len(latencies)} corrections, {len(latencies) / seconds:.0f} per second",
        f"{sum(device.num_tokens for device in devices) / seconds:.0f} tokens per second, "
        f"{sum(device.num_refusals for device in devices)} refusals",
    ]
    if len(latencies) > 1:
        cuts = statistics.quantiles(latencies, n=100)
        lines.append(f"correction latency: p50 {1000 * cuts[49]:.0f} ms, p99 {1000 * cuts[98]:.0f} ms")
    return "\n".join([*lines, *(f"failed: {failure}" for failure in failures)])


def place_of(config: BrokerConfig, model: str) -> Place:
    """Return the pool, and the vocabulary of a draft model that fits it."""
    text = Text.load(read_info(resolve(model)))
    return Place(config.pool, text.fingerprint, text.vocab_size, Topics(config.root))


def main() -> int:
    """Measure and print; return 1 if the pool cannot be reached or a device failed."""
    parser = CommandLine(prog="python -m benchmarks.load", description=__doc__, formatter_class=HelpFormatter)
    parser.add_argument("--model", default="demo", help="a draft model whose vocabulary the pool serves")
    parser.add_argument("--devices", type=int, default=8, help="devices that generate concurrently")
    parser.add_argument("--seconds", type=float, default=30.0, help="begin no generation after that")
    parser.add_argument("--tokens", type=int, default=60, help="tokens per generation")
    parser.add_argument("--block-length", type=int, default=4, help="draft tokens per block")
    parser.add_argument("--window", type=int, default=1, help="drafts in flight per device")
    parser.add_argument("--draft-ms", type=float, default=0.0, help="how long a draft token takes")
    add_flags(parser, BrokerConfig, ENV_PREFIX)
    flags = parser.parse_args()
    try:
        config = load(BrokerConfig, flags, ENV_PREFIX)
        place = place_of(config, flags.model)
        began = time.monotonic()
        devices = asyncio.run(press(config, place, flags))
    except (SettingsError, LinkError, ModelError) as error:
        print(f"load: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    print(report(devices, time.monotonic() - began))
    return int(any(device.failure for device in devices))


if __name__ == "__main__":
    sys.exit(main())
