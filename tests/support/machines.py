"""Recorded machines: excerpts of their /proc and /sys, and a function that lays them out in a folder."""

from collections.abc import Mapping
from pathlib import Path

PI_4 = """processor\t: {0}
BogoMIPS\t: 108.00
Features\t: fp asimd evtstrm crc32 cpuid
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x0
CPU part\t: 0xd08
CPU revision\t: 3

"""
PI_5 = """processor\t: {0}
BogoMIPS\t: 108.00
Features\t: fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x4
CPU part\t: 0xd0b
CPU revision\t: 1

"""
LITTLE = PI_5.replace("0xd0b", "0xd05")  # a Cortex-A55 beside it, as in an RK3588
EPYC = """processor\t: {0}
vendor_id\t: AuthenticAMD
model name\t: AMD EPYC
flags\t\t: fpu sse2 avx avx2 fma f16c avx512f avx512_vnni avx512_bf16
cpu cores\t: 2

"""
MEMINFO = """MemTotal:        4000000 kB
MemFree:          200000 kB
MemAvailable:    1000000 kB
SwapTotal:             0 kB
"""


def cpuinfo(*cores: str) -> str:
    """The text of /proc/cpuinfo with these cores."""
    return "".join(core.format(index) for index, core in enumerate(cores))


def lay_out(root: Path, files: Mapping[str, str]) -> Path:
    """Write `files` below `root`; returns `root`."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return root
