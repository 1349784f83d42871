"""The sweeps behind the pages: over SNR, over round trips and windows.

Law: a sweep is a list of points, each with the figures of one scheme in one world; tables and pictures are
made from it alone.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar, cast

from tqdm import tqdm

from evaluation.simulate.measures import Speed
from evaluation.simulate.running import World
from evaluation.simulate.study import BROKER_SECONDS, Study
from evaluation.simulate.variants import Case
from evaluation.simulate.world.accounting import PAPERS_VOCAB_SIZE, Wire
from evaluation.simulate.world.channel import Channel, Direction, FixedRate

SNRS_DB = (-10.0, -5.0, 0.0, 5.0, 10.0, 15.0, 20.0)
BANDWIDTHS_MHZ = (0.1, 1.0, 10.0)
WINDOWS = (1, 2, 4, 8)
ROUND_TRIPS_MS = (5.0, 20.0, 50.0, 100.0, 200.0, 500.0)
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
    block_length: int | None = None  # a peer's, tuned for this point


@dataclass(frozen=True, slots=True)
class WindowPoint:
    """One window at one round trip."""

    round_trip_ms: float
    window: int
    speed: Speed


def over_snr(
    study: Study,
    cases: Sequence[Case],
    *,
    bandwidths_mhz: Sequence[float] = BANDWIDTHS_MHZ,
    snrs_db: Sequence[float] = SNRS_DB,
    delay: float,
    count: int | None = None,
) -> list[SnrPoint]:
    """Simulate every scheme at every bandwidth and SNR, counted both ways."""
    cells = [
        (counting, mhz, snr, case)
        for counting in (PAPERS, WIRE)
        for mhz in bandwidths_mhz
        for snr in snrs_db
        for case in cases
    ]
    points: list[SnrPoint] = []
    for counting, mhz, snr, case in progress(cells, "SNR"):
        hertz = 1e6 * mhz
        if counting == PAPERS:
            world = study.papers(hertz, snr, PAPERS_VOCAB_SIZE)
        else:
            world = study.wire(hertz, snr, delay)
        simulation = study.simulation_in(case.name, world, **case.settings)
        found, length = study.speed(simulation, world, count), simulation.variant.gamma or None
        points.append(SnrPoint(counting, mhz, snr, case.label, found, length))
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
