"""Replace the workers of one release by those of another, one by one, while devices generate all the time.

    python -m benchmarks.rolling_upgrade                          # from 0.1.0 to the working tree
    python -m benchmarks.rolling_upgrade --old HEAD~20 --mixed

As Kubernetes does with maxSurge 1 and maxUnavailable 0: a new worker is started, and when it serves, an old
one gets SIGTERM. Devices of the old release ask one prompt after another, sampled at temperature 1; those of
the new one join when all workers are new, or at once with --mixed. The exit code is 0 if each prompt was
answered, without an error, and each device's text for a prompt stayed the same. Old workers end with 0, or
with -9 where they took longer than 20 s and were killed. Everything is real: broker, workers, agents, models.
"""

import argparse
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from benchmarks.rolling_upgrade.devices import Case, Device
from benchmarks.rolling_upgrade.releases import (
    LAST_RELEASE,
    Release,
    ReleaseError,
    older_release,
    present_release,
)
from evaluation.help_format import command_parser
from evaluation.local.broker import BrokerError, LocalBroker
from evaluation.local.worker import LocalWorker, WorkerError
from evaluation.smart_home.held_out import held_out

SCHEMES = ("lossless", "coupled", "hlm", "cu-hlm-online")
PATIENCE = 300.0  # seconds for each round


class Upgrade:
    """One pool, its workers and the devices that ask it."""

    def __init__(
        self, stack: ExitStack, broker_url: str, releases: Sequence[Release], flags: argparse.Namespace
    ):
        self._stack, self._url = stack, broker_url
        self._old, self._new = releases
        self._prompts = [one.command for one in held_out(flags.prompts)]
        self._num_workers, self._num_devices = flags.workers, flags.devices
        self._is_mixed: bool = flags.mixed
        self._schemes: list[str] = flags.schemes
        self.codes: list[int] = []
        self.devices: list[Device] = []

    def run(self) -> None:
        """A round with the old workers, the upgrade, and a round with the new ones."""
        old = [self._start(self._old, number) for number in range(self._num_workers)]
        self._join(self._old)
        if self._is_mixed:
            self._join(self._new)
        self._wait_for(len(self._prompts))
        self._say(f"{self._num_workers} old workers")
        for number, worker in enumerate(old):
            self._start(self._new, number)
            self.codes.append(_end(worker))
            self._wait_for(1)
            self._say(f"{number + 1} of {self._num_workers} replaced")
        if not self._is_mixed:
            self._join(self._new)
        self._wait_for(len(self._prompts))
        self._say(f"{self._num_workers} new workers")
        for device in self.devices:
            device.end()

    def _join(self, release: Release) -> None:
        for number in range(self._num_devices // 2):
            name, scheme = f"{release.name[:8]}-device{number}", self._schemes[number % len(self._schemes)]
            device = Device(release, scheme, self._url, name, self._prompts)
            self.devices.append(self._stack.enter_context(device))

    def _start(self, release: Release, number: int) -> LocalWorker:
        worker = LocalWorker(
            self._url,
            "--num-threads",
            "1",
            name=f"{release.name[:8]}-{number}",
            environment=release.environment,
        )
        return self._stack.enter_context(worker)

    def _wait_for(self, num_answers: int) -> None:
        """Until each device has as many answers more, each to a prompt that it asked after this call."""
        goals = [device.num_answered + 1 + num_answers for device in self.devices]
        end = time.monotonic() + PATIENCE
        while any(device.num_answered < goal for device, goal in zip(self.devices, goals, strict=True)):
            if time.monotonic() > end or any(device.failures for device in self.devices):
                raise WorkerError("devices wait for answers: " + "; ".join(sorted(set(self.failures()))))
            time.sleep(0.05)

    def _say(self, phase: str) -> None:
        num_answered = sum(device.num_answered for device in self.devices)
        num_resent = sum(device.num_resent for device in self.devices)
        slowest = max(device.slowest for device in self.devices)
        print(f"{phase:24}{num_answered:10}{num_resent:14}{slowest:20.2f} s", flush=True)
        for device in self.devices:
            device.forget_times()

    def failures(self) -> list[str]:
        """What went wrong, with the device's name."""
        return [f"{device.name}: {each}" for device in self.devices for each in device.failures]

    def texts(self) -> dict[Case, set[str]]:
        """All texts of each case, over devices and phases."""
        found: dict[Case, set[str]] = {}
        for device in self.devices:
            for case, texts in device.texts.items():
                found.setdefault(case, set()).update(texts)
        return found


def _end(worker: LocalWorker) -> int:
    """SIGTERM, and SIGKILL where that takes too long, as Kubernetes does; the exit code."""
    try:
        return worker.stop()
    except subprocess.TimeoutExpired:
        worker.kill()
        return -signal.SIGKILL


def run(flags: argparse.Namespace) -> int:
    """Upgrade, and print what became of prompts and texts."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="release-")))
        old = older_release(flags.old, folder)
        broker = stack.enter_context(LocalBroker())
        upgrade = Upgrade(stack, broker.url, (old, present_release()), flags)
        print(f"{'':24}{'answers':>10}{'sent again':>14}{'slowest answer':>22}")
        upgrade.run()
    texts = upgrade.texts()
    changed = [case for case, found in texts.items() if len(found) > 1]
    num_lost = sum(device.num_asked - device.num_answered for device in upgrade.devices)
    print(
        f"{len(texts)} cases: {len(changed)} texts changed, {num_lost} prompts without an answer, "
        f"{len(upgrade.failures())} errors; exit codes of the old workers: {upgrade.codes}"
    )
    for line in (*upgrade.failures(), *(f"changed: {case}: {texts[case]}" for case in changed[:5])):
        print(line)
    is_orderly = set(upgrade.codes) <= {0, -signal.SIGKILL}  # a killed worker loses no text either
    return 1 if changed or num_lost or upgrade.failures() or not is_orderly else 0


def main() -> int:
    """Upgrade and compare; return 0 if nothing changed and nothing was lost."""
    parser = command_parser("benchmarks.rolling_upgrade", __doc__)
    parser.add_argument("--old", default=LAST_RELEASE, help="the commit of the older release")
    parser.add_argument("--workers", type=int, default=3, help="workers to replace")
    parser.add_argument("--devices", type=int, default=8, help="devices, half of each release")
    parser.add_argument("--mixed", action="store_true", help="devices of both releases from the beginning")
    parser.add_argument("--schemes", nargs="+", default=list(SCHEMES), help="one for each device in turn")
    parser.add_argument("--prompts", type=int, default=12, help="prompts of a round")
    try:
        return run(parser.parse_args())
    except (ReleaseError, BrokerError, WorkerError) as error:
        print(f"rolling_upgrade: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
