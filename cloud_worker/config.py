"""The settings of a worker; each is a flag, a variable CLOUD_WORKER_... and a TOML key."""

import secrets
from dataclasses import dataclass
from functools import partial

from cloud_worker.scheduling.scheduler import Limits
from common.process.broker_config import BrokerConfig
from common.process.log import LOG_FORMATS, LOG_LEVELS
from common.process.settings import option
from common.protocol.topics import check_name

ENV_PREFIX = "CLOUD_WORKER_"
SEAT_SECONDS = 10.0  # after its last draft a session is taken to go on
MAX_WAIT = 2.0  # seconds in the queue; devices that would wait longer do better elsewhere

_connection = partial(option, group="connection")
_model = partial(option, group="model")
_limits = partial(option, group="limits")
_monitoring = partial(option, group="monitoring")


@dataclass(frozen=True, kw_only=True)
class WorkerConfig(BrokerConfig):
    """What a worker runs and how much it takes on."""

    model: str = _model("demo", "the target model: a folder, a hub name, or demo")
    device: str = _model("auto", "where the model runs", choices=("auto", "cpu", "cuda"))
    dtype: str = _model(
        "float32",
        "the model's numbers; float32 for results that do not depend on the batch",
        choices=("float32", "bfloat16", "float16"),
    )
    device_map: str | None = _model(None, "auto spreads the model's layers over all GPUs")
    tensor_parallel: int = _model(1, "GPUs that share the work of every layer, a process each")
    num_threads: int = _model(0, "CPU threads; 0 leaves torch's choice")
    cache_mb: int = _limits(1024, "memory for the key/value caches of all sessions, in MiB")
    chunk_tokens: int = _limits(256, "new tokens of one session in one forward pass")
    max_context: int = _limits(0, "the longest sequence taken, in tokens; 0: what the model can")
    max_sessions: int = _limits(256, "sessions held; one that is not in use makes room for a new one")
    max_sessions_per_device: int = _limits(16, "sessions held for one device")
    max_rate_per_device: float = _limits(200.0, "messages a second taken from one device; 0: any number")
    max_waiting_mb_per_device: int = _limits(32, "memory for the waiting drafts of one device, in MiB")
    max_batch: int = _limits(32, "sessions verified in one forward pass")
    max_queue: int = _limits(256, "sessions that may wait before new ones are sent away")
    worker: str = _connection(
        "", "this worker's name, unique in the pool (default: the user name, or a random one)"
    )
    status_interval: float = _monitoring(5.0, "seconds between two publications of this worker's status")
    metrics_port: int = _monitoring(0, "port of /metrics, /health and /alive; 0: off")
    metrics_host: str = _monitoring("127.0.0.1", "address that they listen on")
    log_level: str = _monitoring("info", "what is logged", choices=LOG_LEVELS)
    log_format: str = _monitoring("text", "lines for people, or JSON objects", choices=LOG_FORMATS)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.worker:
            check_name(self.worker, "`worker`")
        if self.tensor_parallel > 1 and self.device_map:
            raise ValueError("`tensor_parallel` and `device_map` both spread a model over GPUs: choose one")
        positive = (
            "tensor_parallel",
            "cache_mb",
            "chunk_tokens",
            "max_sessions",
            "max_sessions_per_device",
            "max_waiting_mb_per_device",
            "max_batch",
            "max_queue",
        )
        for name in positive:
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be at least 1, got {getattr(self, name)}")
        if not 0 <= self.max_rate_per_device <= 1e6:
            raise ValueError(
                f"`max_rate_per_device` must be between 0 and 1000000, got {self.max_rate_per_device:g}"
            )
        if not 0 <= self.metrics_port <= 65535:
            raise ValueError(f"`metrics_port` must be between 0 and 65535, got {self.metrics_port}")
        if not 0.1 <= self.status_interval <= 3600:
            raise ValueError(f"`status_interval` must be between 0.1 and 3600, got {self.status_interval:g}")
        if self.num_threads < 0 or self.max_context < 0:
            raise ValueError("`num_threads` and `max_context` cannot be negative")

    @property
    def limits(self) -> Limits:
        """What the scheduler keeps to."""
        return Limits(
            max_sessions=self.max_sessions,
            max_sessions_per_device=self.max_sessions_per_device,
            max_batch=self.max_batch,
            max_queue=self.max_queue,
            max_waiting_bytes_per_device=self.max_waiting_mb_per_device << 20,
            seat_seconds=SEAT_SECONDS,
            max_wait=MAX_WAIT,
        )


def random_worker_name() -> str:
    """A short name that no other worker of the pool has."""
    return "w" + secrets.token_hex(3)
