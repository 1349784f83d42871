"""What `doctor` has found out. Pure values; None means that it could not be seen."""

from dataclasses import dataclass, field

from common.protocol.worker_status import Status
from edge_agent.device.processor import Processor
from edge_agent.device.readings import Heat, Load, Memory


@dataclass(frozen=True, slots=True)
class Machine:
    """The device without our programs."""

    processor: Processor
    board: str | None
    load: Load
    memory: Memory | None
    heat: Heat
    year: int
    clock_synchronised: bool | None


@dataclass(frozen=True, slots=True)
class Runtime:
    """ONNX Runtime: `problem` is why it cannot be loaded."""

    version: str | None = None
    providers: tuple[str, ...] = ()
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class Model:
    """The draft model: its files, and if it was loaded, what it takes; `problem` is why it was not."""

    name: str
    problem: str | None = None
    folder: str | None = None
    precision: str | None = None
    vocabulary: int | None = None
    max_positions: int | None = None
    num_bytes: int = 0
    position_bytes: int | None = None
    num_threads: int = 1
    # by number of threads, in seconds: the median time of a token, and the processor time of one
    step_times: dict[int, float] = field(default_factory=dict[int, float])
    step_cpu: dict[int, float] = field(default_factory=dict[int, float])


@dataclass(frozen=True, slots=True)
class Cloud:
    """Broker and pool: `problem` is why there is no connection, `failure` why no worker answered."""

    broker: str
    pool: str
    encrypted: bool
    is_optional: bool = False  # the agent goes on alone without it
    problem: str | None = None
    failure: str | None = None
    certificate_days: int | None = None
    workers: dict[str, Status] | None = None  # None: this account may not see them
    round_trip: float | None = None  # seconds, of one draft


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything on the screen; `cloud` is None for a scheme that needs none."""

    release: str
    machine: Machine
    runtime: Runtime
    model: Model | None
    cloud: Cloud | None
    wanted_positions: int  # the longest sequence that one answer with the settings can make
