"""What an agent gains that looks at its link: the gate that weighs asking, and as many ids as are worth it.

Law: each prompt follows the one before on one device, for all cases alike, so that what was learnt counts;
and what a case skipped and got right is judged by the texts of the very run that was timed.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from evaluation.simulate.measures import Speed, Worth, speed
from evaluation.simulate.study import Study
from evaluation.simulate.sweeps import fixed, progress
from evaluation.simulate.ways import Case

LINKS_KBPS = (1.0, 10.0, 100.0, 1000.0)
THRESHOLDS = (0.08, 0.2, 0.4)  # the default first
REJECTION_COSTS = (1.0, 3.0, 10.0)  # seconds


@dataclass(frozen=True, slots=True)
class LinkPoint:
    """One case on one link; `threshold` is what the last generation was run with."""

    kbps: float
    case: str
    speed: Speed
    worth: Worth
    threshold: float


def cases() -> list[Case]:
    """Opportunistic by fixed thresholds, by prices, and with a number of ids for each token."""
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
    """Every case on links of fixed rates, everything counted."""
    points: list[LinkPoint] = []
    for kbps, case in progress([(kbps, case) for kbps in links_kbps for case in cases()], "links"):
        simulation = study.simulation(case.name, **case.settings)
        (outcomes,) = simulation.run([study.prompts], fixed(study, 1000 * kbps, round_trip_ms))
        worth = study.worth_of(simulation, outcomes)
        points.append(LinkPoint(kbps, case.label, speed(outcomes), worth, outcomes[-1].numbers.threshold))
    return points
