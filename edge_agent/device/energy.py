"""Energy per token by a stated model: what the board draws when idle, and more for each busy core. Pure.

The watts are those that makers and reviewers publish for the whole board, rounded; none was measured here. A
profile is good for comparing settings on one board, not for a battery's last hour.
"""

from dataclasses import dataclass

from edge_agent.device.processor import Processor


@dataclass(frozen=True, slots=True)
class Profile:
    """A board's power in watts: idle, and for each core that is busy."""

    name: str
    idle: float
    per_core: float


PROFILES = (
    Profile("Raspberry Pi Zero 2 W", 0.6, 0.5),
    Profile("Raspberry Pi 3", 1.6, 0.9),
    Profile("Raspberry Pi 4", 2.7, 1.0),
    Profile("Raspberry Pi 5", 2.8, 1.4),
    Profile("Jetson", 5.0, 1.5),
)
UNKNOWN_ARM = Profile("an unknown ARM board", 2.5, 1.2)
UNKNOWN_X86 = Profile("an unknown x86 machine", 10.0, 8.0)


def profile_of(board: str | None, processor: Processor) -> Profile:
    """The profile of the board by its name, else a general one for its kind of processor."""
    known = next((one for one in PROFILES if board is not None and one.name in board), None)
    return known or (UNKNOWN_ARM if processor.is_arm else UNKNOWN_X86)


def joules_per_token(profile: Profile, seconds: float, seconds_cpu: float) -> float:
    """Energy of a token that takes `seconds`, of which cores are busy for `seconds_cpu` in total."""
    return profile.idle * seconds + profile.per_core * seconds_cpu
