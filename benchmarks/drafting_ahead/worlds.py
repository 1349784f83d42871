"""The costs under which texts are drafted again. Pure values."""

from dataclasses import dataclass

from evaluation.simulate.world.compute import Compute


@dataclass(frozen=True, slots=True)
class Setting:
    """A name, what the models cost, and the round trip in seconds."""

    name: str
    compute: Compute
    round_trip: float


def _cpu(slope: float) -> Compute:
    """Qwen2.5-Coder 0.5B and 1.5B on two cores of a CPU, as measured; slopes vary with the machine."""
    return Compute(draft_seconds=0.030, pass_seconds=0.370, prompt_seconds=0.002, position_seconds=slope)


GPU = Compute(draft_seconds=0.030, pass_seconds=0.025, prompt_seconds=0.002)
DEMO = Compute(draft_seconds=0.0013, pass_seconds=0.008, position_seconds=0.0001)

WORLDS = (
    *(
        Setting(f"CPU +{1000 * slope:g} ms, {1000 * trip:g} ms", _cpu(slope), trip)
        for slope in (0.010, 0.025, 0.040)
        for trip in (0.005, 0.020, 0.100)
    ),
    *(Setting(f"GPU, {1000 * trip:g} ms", GPU, trip) for trip in (0.005, 0.050, 0.200)),
    *(Setting(f"demo, {1000 * trip:g} ms", DEMO, trip) for trip in (0.002, 0.050)),
)
