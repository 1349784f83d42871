"""An ONNX session that times its runs, and lets others run in between."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import onnxruntime as ort

SETTLE = 0.005  # seconds


@dataclass(frozen=True, slots=True)
class Moment:
    """Wall and processor time, in seconds; differences of moments are durations."""

    wall: float
    cpu: float

    @classmethod
    def now(cls) -> "Moment":
        """Return the time of the whole process."""
        return cls(time.perf_counter(), time.process_time())

    def __sub__(self, other: "Moment") -> "Moment":
        return Moment(self.wall - other.wall, self.cpu - other.cpu)


@dataclass(slots=True)
class Steps:
    """Durations, one per token: a bare run, the run within our step, the whole step, and each peer's step."""

    bare: list[Moment] = field(default_factory=list[Moment])
    inside: list[Moment] = field(default_factory=list[Moment])
    whole: list[Moment] = field(default_factory=list[Moment])
    peers: dict[str, list[Moment]] = field(default_factory=dict[str, list[Moment]])

    def wall(self, each: Sequence[Moment]) -> float:
        """Return the median wall time in milliseconds."""
        return 1000 * median(one.wall for one in each)

    def cpu(self, each: Sequence[Moment]) -> float:
        """Return the median processor time in milliseconds."""
        return 1000 * median(one.cpu for one in each)

    def ratio(self, ours: Sequence[Moment], others: Sequence[Moment]) -> tuple[float, float]:
        """Return the medians of the ratios within a token: wall, processor time."""
        pairs = list(zip(ours, others, strict=False))
        wall = median(one.wall / other.wall for one, other in pairs)
        return wall, median(one.cpu / max(1e-9, other.cpu) for one, other in pairs)


class TimedRuns:
    """Takes the place of an `InferenceSession`. While `steps` is set, each run is done twice and timed.

    The first is the bare run and belongs to no step; neither do the peers' steps. A whole step lasts from the
    beginning of one run to that of the next, less what does not belong to it. The event loop, which sends and
    shows a token while the next run goes on, gets time to finish first, so that no run counts its work.
    """

    def __init__(self, session: ort.InferenceSession) -> None:
        self._session = session
        self.steps: Steps | None = None
        self.peers: dict[str, Callable[[], None]] = {}
        self._began: Moment | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    def start(self, peers: dict[str, Callable[[], None]]) -> Steps:
        """Time the runs from the next one on."""
        self.peers, self._began, self.steps = peers, None, Steps(peers={name: [] for name in peers})
        return self.steps

    def run_with_iobinding(self, binding: ort.IOBinding) -> None:
        """Run as the session does; the buffers are the same both times, so the second run changes nothing."""
        if self.steps is None:
            self._session.run_with_iobinding(binding)
            return
        reached = time.perf_counter()
        time.sleep(SETTLE)
        if self._began is not None:
            cpu = time.process_time()  # with what the event loop did beside the run
            self.steps.whole.append(Moment(reached, cpu) - self._began)
        for name, step in self.peers.items():
            self.steps.peers[name].append(timed(step))
        self.steps.bare.append(timed(lambda: self._session.run_with_iobinding(binding)))
        self._began = Moment.now()
        self._session.run_with_iobinding(binding)
        self.steps.inside.append(Moment.now() - self._began)


def timed(step: Callable[[], None]) -> Moment:
    """Return how long a call takes."""
    began = Moment.now()
    step()
    return Moment.now() - began
