"""Memory, temperature and throttling, as the kernel's files state them. Pure.

Law: a reading that a machine does not have is None, never a guess.
"""

from collections.abc import Mapping
from dataclasses import dataclass

MIB = 1024 * 1024
_PROCESSOR_ZONES = ("cpu", "soc", "x86_pkg", "bigcore", "littlecore", "tdie", "k10temp")

# The bits of a Raspberry Pi's `get_throttled`: those of now; the same, 16 higher, are those since the boot.
_THROTTLED_BITS = {
    0: "under-voltage",
    1: "frequency capped",
    2: "throttled",
    3: "soft temperature limit",
}


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes of memory that this process can have: the machine's, or less in a container."""

    total: int
    available: int
    swap: int = 0


@dataclass(frozen=True, slots=True)
class Heat:
    """The processor's temperature in degrees Celsius, and what slows it down, now and since the boot."""

    temperature: float | None = None
    throttled_now: tuple[str, ...] = ()
    throttled_before: tuple[str, ...] = ()
    governor: str | None = None  # of the frequency


@dataclass(frozen=True, slots=True)
class Load:
    """How many cores this process may use, and how many runnable tasks there were in the last minute."""

    num_usable: int
    average: float


def parse_meminfo(text: str, *, limit: int | None = None, used: int = 0) -> Memory | None:
    """Read /proc/meminfo; `limit` and `used` are those of a container's control group."""
    kib: dict[str, int] = {}
    for line in text.splitlines():
        name, _, value = line.partition(":")
        number = value.split()[:1]
        if number and number[0].isdigit():
            kib[name] = int(number[0])
    if "MemTotal" not in kib:
        return None
    total = 1024 * kib["MemTotal"]
    available = 1024 * kib.get("MemAvailable", kib.get("MemFree", 0))
    if limit is not None and limit < total:
        total, available = limit, min(available, max(0, limit - used))
    return Memory(total, available, 1024 * kib.get("SwapTotal", 0))


def processor_temperature(zones: Mapping[str, float]) -> float | None:
    """The highest of the processor's thermal zones by type; of all zones if none is named after it."""
    named = [value for name, value in zones.items() if name.lower().startswith(_PROCESSOR_ZONES)]
    plausible = [value for value in named or zones.values() if -40 < value < 150]
    return max(plausible, default=None)


def throttling(bits: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What slows a Raspberry Pi down now, and what did since its boot."""
    now = tuple(name for bit, name in _THROTTLED_BITS.items() if bits >> bit & 1)
    before = tuple(name for bit, name in _THROTTLED_BITS.items() if bits >> bit + 16 & 1)
    return now, before
