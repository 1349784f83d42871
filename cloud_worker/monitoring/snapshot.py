"""The state of a worker at one moment, for its metrics and its health. Pure values."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from cloud_worker.monitoring.tally import WorkerTally
from common.link.values import LinkStatistics
from common.protocol.worker_status import State

LONG_PASS, HUNG_PASS = 60.0, 600.0  # seconds


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Counts since the start, and the state now."""

    state: State
    tally: WorkerTally
    link: LinkStatistics
    is_connected: bool
    num_sessions: int
    num_waiting: int  # sessions with work waiting
    num_cached_tokens: int  # summed over sessions: a shared beginning counts for each
    num_used_pages: int  # of the key/value cache, each counted once however many sessions share it
    num_pages: int
    uptime: float  # seconds
    pass_seconds: float = 0.0  # how long the forward pass in progress has taken so far
    engine_fault: str | None = None  # why the target model cannot be used now
    charged_seconds: Mapping[str, float] = field(default_factory=dict)  # to devices, by what they are for

    @property
    def fault(self) -> str | None:
        """Why the worker cannot serve devices now; None when it can."""
        if self.state is State.DRAINING:
            return "this worker is stopping"
        if self.pass_seconds > LONG_PASS:
            return f"a forward pass has taken {self.pass_seconds:.0f} s: the model may hang"
        if not self.is_connected:
            return "the broker cannot be reached"
        return self.engine_fault

    @property
    def hangs(self) -> bool:
        """Whether the model has hung for so long that only a new process can help."""
        return self.pass_seconds > HUNG_PASS
