"""What a processor is and can do, from the text of /proc/cpuinfo and the speed of each core. Pure.

Law: an unknown processor is no error. It has its number where a name is missing, and no features.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

# What ONNX Runtime's kernels look for, by the kernel's names, with the name that people know.
FEATURES = {
    "avx2": "avx2",
    "avx512f": "avx512",
    "avx_vnni": "vnni",
    "avx512_vnni": "vnni",
    "amx_tile": "amx",
    "asimd": "asimd",
    "asimdhp": "fp16",
    "asimddp": "dotprod",
    "i8mm": "i8mm",
    "sve": "sve",
    "sve2": "sve2",
    "sme": "sme",
}
# implementer and part of ARM cores
_CORES = {
    (0x41, 0xD03): "Cortex-A53",
    (0x41, 0xD04): "Cortex-A35",
    (0x41, 0xD05): "Cortex-A55",
    (0x41, 0xD07): "Cortex-A57",
    (0x41, 0xD08): "Cortex-A72",
    (0x41, 0xD09): "Cortex-A73",
    (0x41, 0xD0A): "Cortex-A75",
    (0x41, 0xD0B): "Cortex-A76",
    (0x41, 0xD0C): "Neoverse-N1",
    (0x41, 0xD0D): "Cortex-A77",
    (0x41, 0xD40): "Neoverse-V1",
    (0x41, 0xD41): "Cortex-A78",
    (0x41, 0xD42): "Cortex-A78AE",
    (0x41, 0xD44): "Cortex-X1",
    (0x41, 0xD46): "Cortex-A510",
    (0x41, 0xD47): "Cortex-A710",
    (0x41, 0xD48): "Cortex-X2",
    (0x41, 0xD49): "Neoverse-N2",
    (0x41, 0xD4D): "Cortex-A715",
    (0x41, 0xD4E): "Cortex-X3",
    (0x41, 0xD4F): "Neoverse-V2",
    (0x41, 0xD80): "Cortex-A520",
    (0x41, 0xD81): "Cortex-A720",
    (0x41, 0xD82): "Cortex-X4",
    (0x4E, 0x004): "Carmel",
}


@dataclass(frozen=True, slots=True)
class CoreClass:
    """Cores of one kind; `speed` compares kinds of one processor (capacity or frequency; 0: unknown)."""

    name: str
    num: int
    speed: int = 0


@dataclass(frozen=True, slots=True)
class Processor:
    """A processor; `classes` are its cores from the fastest kind to the slowest, `features` common to all."""

    name: str
    machine: str  # as `uname -m` prints it
    features: frozenset[str]
    classes: tuple[CoreClass, ...]

    @property
    def num_cores(self) -> int:
        """Logical cores."""
        return sum(one.num for one in self.classes)

    @property
    def num_big(self) -> int:
        """Cores of the fastest kind."""
        return self.classes[0].num if self.classes else 0

    @property
    def is_arm(self) -> bool:
        """Whether this is an ARM processor of 64 bits."""
        return self.machine in ("aarch64", "arm64")


def parse_cpuinfo(text: str, machine: str, speeds: Mapping[int, int] | None = None) -> Processor:
    """Read /proc/cpuinfo; `speeds` are the capacities or highest frequencies of the cores by number."""
    cores = [_fields(part) for part in text.split("\n\n")]
    cores = [core for core in cores if "processor" in core]
    kinds = [(_kind(core), (speeds or {}).get(index, 0), _flags(core)) for index, core in enumerate(cores)]
    counts = Counter((name, speed) for name, speed, _ in kinds)
    classes = sorted(
        (CoreClass(name, num, speed) for (name, speed), num in counts.items()), key=lambda one: -one.speed
    )
    found = [frozenset(FEATURES[flag] for flag in flags if flag in FEATURES) for _, _, flags in kinds]
    features = frozenset.intersection(*found) if found else frozenset[str]()
    names = dict.fromkeys(one.name for one in classes)
    return Processor(" + ".join(names) or machine, machine, features, tuple(classes))


def _fields(part: str) -> dict[str, str]:
    pairs = (line.partition(":") for line in part.splitlines())
    return {name.strip(): value.strip() for name, separator, value in pairs if separator}


def _flags(core: Mapping[str, str]) -> list[str]:
    return (core.get("flags") or core.get("Features") or "").split()


def _kind(core: Mapping[str, str]) -> str:
    """The name of a core: x86 states it, ARM states two numbers."""
    if name := core.get("model name"):
        return name
    try:
        part = (int(core["CPU implementer"], 16), int(core["CPU part"], 16))
    except (KeyError, ValueError):
        return core.get("uarch") or "unknown core"
    return _CORES.get(part, f"core {part[0]:#x}/{part[1]:#x}")
