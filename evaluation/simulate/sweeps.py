"""The sweeps behind the pages: over SNR, over thresholds, over round trips and windows.

Law: a sweep is a list of points, each with the figures of one scheme in one world; tables and pictures are
made from it alone.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar, cast

from tqdm import tqdm

from edge_agent.policy.schemes import SCHEMES, Gate
from evaluation.simulate.measures import Speed, Worth, speed
from evaluation.simulate.running import World
from evaluation.simulate.study import BROKER_SECONDS, PAPERS_VOCAB_SIZE, Study
from evaluation.simulate.variants import Case
from evaluation.simulate.world.accounting import Wire
from evaluation.simulate.world.channel import Channel, Direction, FixedRate

SNRS_DB = (-10.0, -5.0, 0.0, 5.0, 10.0, 15.0, 20.0)
BANDWIDTHS_MHZ = (0.1, 1.0, 10.0)
THRESHOLDS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.8)
WINDOWS = (1, 2, 4, 8)
ROUND_TRIPS_MS = (5.0, 20.0, 50.0, 100.0, 200.0, 500.0)
GATED = tuple(name for name, scheme in SCHEMES.items() if scheme.gate is Gate.UNCERTAIN and not scheme.holds)
Cell = TypeVar("Cell")
PAPERS, WIRE = "papers", "wire"  # how bytes are counted


@dataclass(frozen=True, slots=True)
class SnrPoint:
    """One scheme at one bandwidth and SNR."""

    counting: str
    bandwidth_mhz: float
    snr_db: float
    variant: str
    speed: Speed


@dataclass(frozen=True, slots=True)
class ThresholdPoint:
    """The worth and speed of one scheme at one threshold."""

    variant: str
    threshold: float | None
    worth: Worth
    speed: Speed


@dataclass(frozen=True, slots=True)
class WindowPoint:
    """One window at one round trip."""

    round_trip_ms: float
    window: int
    speed: Speed


def over_snr(
    study: Study,
    variants: Sequence[str],
    *,
    bandwidths_mhz: Sequence[float] = BANDWIDTHS_MHZ,
    snrs_db: Sequence[float] = SNRS_DB,
    delay: float,
    count: int | None = None,
) -> list[SnrPoint]:
    """Simulate every scheme at every bandwidth and SNR, counted both ways."""
    cells = [
        (counting, mhz, snr, name)
        for counting in (PAPERS, WIRE)
        for mhz in bandwidths_mhz
        for snr in snrs_db
        for name in variants
    ]
    points: list[SnrPoint] = []
    for counting, mhz, snr, name in progress(cells, "SNR"):
        hertz = 1e6 * mhz
        if counting == PAPERS:
            world = study.papers(hertz, snr, PAPERS_VOCAB_SIZE)
        else:
            world = study.wire(hertz, snr, delay)
        points.append(SnrPoint(counting, mhz, snr, name, study.speed(study.simulation(name), world, count)))
    return points


def over_thresholds(
    study: Study,
    cases: Sequence[Case],
    *,
    bandwidth_mhz: float,
    snr_db: float,
    delay: float,
    thresholds: Sequence[float] = THRESHOLDS,
) -> list[ThresholdPoint]:
    """Simulate schemes with a gate at each threshold, the others once, everything counted."""
    world = study.wire(1e6 * bandwidth_mhz, snr_db, delay)
    cells = [
        (case, threshold) for case in cases for threshold in (thresholds if case.name in GATED else (None,))
    ]
    points: list[ThresholdPoint] = []
    for case, threshold in progress(cells, "thresholds"):
        settings = case.settings if threshold is None else {**case.settings, "threshold": threshold}
        simulation = study.simulation(case.name, **settings)
        outcomes = study.run(simulation, world)
        worth = study.worth_of(simulation, outcomes)
        points.append(ThresholdPoint(case.label, threshold, worth, speed(outcomes)))
    return points


def over_windows(study: Study, *, rate_bps: float, count: int | None = None) -> list[WindowPoint]:
    """Simulate lossless at each round trip with each window, on a link of a fixed rate."""
    cells = [(trip, window) for trip in ROUND_TRIPS_MS for window in WINDOWS]
    points: list[WindowPoint] = []
    for trip, window in progress(cells, "round trips"):
        simulation = study.simulation("lossless", window=window)
        points.append(WindowPoint(trip, window, study.speed(simulation, fixed(study, rate_bps, trip), count)))
    return points


def fixed(study: Study, rate_bps: float, round_trip_ms: float, *, tcp: bool = True) -> World:
    """Return a world whose link has a fixed rate in both directions."""
    direction = Direction(FixedRate(rate_bps), round_trip_ms / 2000)
    return World(
        lambda seed: Channel(direction, direction, seed),
        study.compute,
        lambda: Wire(study.pair.vocab_size, tcp=tcp),
        broker_seconds=BROKER_SECONDS,
    )


def progress(cells: Sequence[Cell], name: str) -> Iterable[Cell]:
    """Iterate over the cells with a progress bar."""
    return cast("Iterable[Cell]", tqdm(cells, desc=name, unit="point"))
