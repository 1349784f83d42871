"""Read the machine: /proc, /sys, and on a Raspberry Pi its firmware. Only reads, and needs no privileges.

Law: what cannot be read is left out. `root` is where the files lie, so that recorded ones can be read, too.
"""

import ctypes
import os
import platform
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from edge_agent.device.processor import Processor, parse_cpuinfo
from edge_agent.device.readings import Heat, Load, Memory, parse_meminfo, processor_temperature, throttling
from edge_agent.device.threads import choose_threads

ROOT = Path("/")
_TIME_ERROR = 5  # adjtimex: the clock is not synchronised
_TIMEX_BYTES = 512  # more than any struct timex
_FIRMWARE_TIMEOUT = 2.0  # seconds


def read_processor(root: Path = ROOT, machine: str | None = None) -> Processor:
    """The processor; `machine` is what `uname -m` prints there."""
    cores = {_number(path.name): path for path in _sorted(root / "sys/devices/system/cpu", "cpu[0-9]*")}
    speeds: dict[int, int] = {}
    for index, path in cores.items():
        text = _text(path / "cpu_capacity") or _text(path / "cpufreq/cpuinfo_max_freq")
        if text.isdigit():
            speeds[index] = int(text)
    return parse_cpuinfo(_text(root / "proc/cpuinfo"), machine or platform.machine(), speeds)


def read_board(root: Path = ROOT) -> str | None:
    """The name of the board, such as "Raspberry Pi 5 Model B Rev 1.0"; None where the firmware gives none."""
    for name in ("proc/device-tree/model", "sys/firmware/devicetree/base/model"):
        if model := _text(root / name).strip("\0 \n"):
            return model
    return None


def read_load(root: Path = ROOT) -> Load:
    """The cores that affinity and a container's quota leave, and how busy the machine is."""
    num_usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota, _, period = _text(root / "sys/fs/cgroup/cpu.max").partition(" ")
    if quota.isdigit() and period.strip().isdigit():
        num_usable = min(num_usable, max(1, int(quota) // max(1, int(period))))
    first = _text(root / "proc/loadavg").split(" ")[0]
    try:
        return Load(num_usable, float(first))
    except ValueError:
        return Load(num_usable, 0.0)


def threads_here(wanted: int | None, model_bytes: int, most: int) -> int:
    """`wanted`, or if that is None, what this machine has free now; 0 means one per core."""
    if wanted is not None:
        return wanted
    load = read_load()
    return choose_threads(read_processor(), load.num_usable, load.average, model_bytes, most)


def read_memory(root: Path = ROOT) -> Memory | None:
    """The memory that this process can have."""
    group = root / "sys/fs/cgroup"
    limit, used = _text(group / "memory.max").strip(), _text(group / "memory.current").strip()
    return parse_meminfo(
        _text(root / "proc/meminfo"),
        limit=int(limit) if limit.isdigit() else None,
        used=int(used) if used.isdigit() else 0,
    )


def read_heat(root: Path = ROOT) -> Heat:
    """Temperature, throttling and the governor of the frequency."""
    zones: dict[str, float] = {}
    for zone in _sorted(root / "sys/class/thermal", "thermal_zone*"):
        with suppress(ValueError):
            kind = _text(zone / "type").strip() or zone.name
            zones[kind] = max(zones.get(kind, -1e9), int(_text(zone / "temp")) / 1000)
    now, before = throttling(_firmware_bits(root))
    counts = _sorted(root / "sys/devices/system/cpu", "cpu[0-9]*/thermal_throttle/package_throttle_count")
    if any(_text(path).strip() not in ("", "0") for path in counts):
        before = (*before, "throttled")
    governor = _text(root / "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor").strip() or None
    return Heat(processor_temperature(zones), now, before, governor)


def is_clock_synchronised() -> bool | None:
    """Whether the kernel takes its clock for synchronised (NTP); None where it does not say."""
    try:
        adjtimex = ctypes.CDLL(None).adjtimex
        result = int(adjtimex(ctypes.create_string_buffer(_TIMEX_BYTES)))  # modes 0: only reads
    except (OSError, AttributeError):
        return None
    return None if result < 0 else result != _TIME_ERROR


def _firmware_bits(root: Path) -> int:
    """A Raspberry Pi's throttling bits, 0 on any other machine."""
    for path in _sorted(root / "sys/devices/platform/soc", "*/get_throttled"):
        with suppress(ValueError):
            return int(_text(path), 16)
    if root != ROOT or "Raspberry Pi" not in (read_board() or ""):
        return 0
    try:
        done = subprocess.run(
            ["vcgencmd", "get_throttled"],
            capture_output=True,
            text=True,
            timeout=_FIRMWARE_TIMEOUT,
            check=True,
        )
        return int(done.stdout.partition("=")[2], 16)
    except (OSError, ValueError, subprocess.SubprocessError):
        return 0


def _sorted(folder: Path, pattern: str) -> Iterator[Path]:
    yield from sorted(folder.glob(pattern))


def _number(name: str) -> int:
    digits = name.removeprefix("cpu")
    return int(digits) if digits.isdigit() else -1


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
