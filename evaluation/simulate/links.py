"""What an agent gains by adapting to its link: a gate that weighs the cost of asking, and k by price.

Law: in every case the prompts follow each other on one device, so that learning pays off; and what a case
skips and gets right is scored on the texts of the run that was timed.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from evaluation.simulate.measures import Speed, Worth, speed
from evaluation.simulate.study import Study
from evaluation.simulate.sweeps import fixed, progress
from evaluation.simulate.variants import Case

LINKS_KBPS = (1.0, 10.0, 100.0, 1000.0)
THRESHOLDS = (0.08, 0.2, 0.4)  # the default first
REJECTION_COSTS = (1.0, 3.0, 10.0)  # seconds


@dataclass(frozen=True, slots=True)
class LinkPoint:
    """One case on one link; `threshold` is that of the last generation."""

    kbps: float
    case: str
    speed: Speed
    worth: Worth
    threshold: float


def cases() -> list[Case]:
    """Return opportunistic with fixed thresholds, with prices, and with a number of ids per token."""
    name = "opportunistic"
    fixed_ones = [Case(f"threshold {each:g}", name, {"threshold": each}) for each in THRESHOLDS]
    priced = [Case(f"rejection cost {cost:g} s", name, {"rejection_cost": cost}) for cost in REJECTION_COSTS]
    cost, threshold = REJECTION_COSTS[1], THRESHOLDS[0]
    chosen = [
        Case(f"threshold {threshold:g}, k per token", name, {"threshold": threshold, "max_ids": 0}),
        Case(f"rejection cost {cost:g} s, k per token", name, {"rejection_cost": cost, "max_ids": 0}),
    ]
    return [*fixed_ones, *priced, *chosen]


def over_links(
    study: Study, *, round_trip_ms: float, links_kbps: Sequence[float] = LINKS_KBPS
) -> list[LinkPoint]:
    """Simulate every case on links of fixed rates, everything counted."""
    points: list[LinkPoint] = []
    for kbps, case in progress([(kbps, case) for kbps in links_kbps for case in cases()], "links"):
        simulation = study.simulation(case.name, **case.settings)
        (outcomes,) = simulation.run([study.prompts], fixed(study, 1000 * kbps, round_trip_ms))
        worth = study.worth_of(simulation, outcomes)
        points.append(LinkPoint(kbps, case.label, speed(outcomes), worth, outcomes[-1].numbers.threshold))
    return points
