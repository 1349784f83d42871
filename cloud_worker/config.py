"""The config of a worker; each setting is a flag, a variable CLOUD_WORKER_... and a TOML key."""

import os
import secrets
from dataclasses import dataclass, fields
from functools import partial
from urllib.parse import urlsplit

from cloud_worker.scheduling.limits import Limits
from common.process.broker_config import BrokerConfig, read_secret
from common.process.log import LOG_FORMATS, LOG_LEVELS
from common.process.settings import SettingsError, option
from common.protocol.topics import check_name

ENV_PREFIX = "CLOUD_WORKER_"
SEAT_SECONDS = 10.0  # a session counts as active for this long after its last draft
MAX_WAIT = 2.0  # seconds in the queue; a device that would wait longer is better served by another worker

ENGINES = ("torch", "vllm")

_connection = partial(option, group="connection")
_model = partial(option, group="model")
_limits = partial(option, group="limits")
_monitoring = partial(option, group="monitoring")


@dataclass(frozen=True, kw_only=True)
class WorkerConfig(BrokerConfig):
    """What a worker runs, and how much it takes on."""

    model: str = _model("demo", "the target model: a folder, a hub name, a GGUF file, or demo")
    engine: str = _model(
        "torch",
        "what runs the model: torch in this process, or a vLLM server; then `model` is its tokenizer's",
        choices=ENGINES,
    )
    engine_url: str | None = _model(None, "with engine vllm: the server, http://host:port")
    engine_key_file: str | None = _model(
        None, "with engine vllm: a file whose first line is the server's API key"
    )
    engine_model: str | None = _model(
        None, "with engine vllm: the name of the model at the server (default: the only one served)"
    )
    device: str = _model("auto", "what the model runs on", choices=("auto", "cpu", "cuda"))
    dtype: str = _model(
        "float32",
        "the model's number format; only float32 makes results independent of the batch",
        choices=("float32", "bfloat16", "float16"),
    )
    device_map: str | None = _model(None, "auto: spread the model's layers over all GPUs")
    tensor_parallel: int = _model(1, "number of GPUs that share every layer, with one process each")
    num_threads: int = _model(0, "CPU threads; 0: torch's default")
    cache_mb: int = _limits(1024, "memory for the key/value caches of all sessions, in MiB")
    chunk_tokens: int = _limits(256, "new tokens of one session in one forward pass")
    max_context: int = _limits(0, "longest sequence accepted, in tokens; 0: as long as the model allows")
    max_sessions: int = _limits(256, "sessions held; a new one evicts the least recently used one")
    max_sessions_per_device: int = _limits(16, "sessions held for one device")
    max_rate_per_device: float = _limits(
        200.0, "messages per second accepted from one device; 0: none are dropped"
    )
    max_waiting_mb_per_device: int = _limits(32, "memory for the waiting drafts of one device, in MiB")
    max_batch: int = _limits(32, "sessions verified in one forward pass")
    max_queue: int = _limits(256, "sessions that may wait before new ones are refused")
    worker: str = _connection(
        "", "this worker's name, unique in the pool (default: the user name, or random)"
    )
    status_interval: float = _monitoring(5.0, "seconds between publications of this worker's status")
    metrics_port: int = _monitoring(0, "port of the pages /metrics, /health and /alive; 0: off")
    metrics_host: str = _monitoring("127.0.0.1", "address those pages listen on")
    log_level: str = _monitoring("info", "least severe level that is logged", choices=LOG_LEVELS)
    log_format: str = _monitoring("text", "lines for people, or JSON objects", choices=LOG_FORMATS)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.worker:
            check_name(self.worker, "`worker`")
        if self.tensor_parallel > 1 and self.device_map:
            raise ValueError("`tensor_parallel` and `device_map` cannot be combined: set only one")
        self._check_engine()
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

    def _check_engine(self) -> None:
        """Raise ValueError for settings that the engine has no use for, or lacks."""
        if self.engine == "torch":
            for name in ("engine_url", "engine_key_file", "engine_model"):
                if getattr(self, name) is not None:
                    raise ValueError(f"`{name}` is for `engine` vllm: set both, or neither")
            return
        if self.engine_url is None:
            raise ValueError("`engine` vllm needs `engine_url`: set it to the server, http://host:port")
        parts = urlsplit(self.engine_url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise ValueError(
                f"`engine_url` must be http://host:port or https://host:port, got {self.engine_url}"
            )
        defaults = {one.name: one.default for one in fields(WorkerConfig)}
        for name in (
            "device",
            "dtype",
            "device_map",
            "tensor_parallel",
            "num_threads",
            "cache_mb",
            "chunk_tokens",
        ):
            if getattr(self, name) != defaults[name]:
                raise ValueError(f"`{name}` is for `engine` torch: set it at the vLLM server")

    def engine_key(self) -> str | None:
        """The server's API key; SettingsError if its file cannot be read."""
        if self.engine_key_file is None:
            return None
        path = os.path.expanduser(self.engine_key_file)
        try:
            key = read_secret(path)
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError(
                f"`engine_key_file` {path} cannot be read ({error}): check the path"
            ) from error
        if not key:
            raise SettingsError(f"`engine_key_file` {path} has no key in its first line")
        return key

    @property
    def limits(self) -> Limits:
        """The scheduler's limits."""
        return Limits(
            max_sessions=self.max_sessions,
            max_sessions_per_device=self.max_sessions_per_device,
            max_batch=self.max_batch,
            max_queue=self.max_queue,
            max_waiting_bytes_per_device=self.max_waiting_mb_per_device << 20,
            seat_seconds=SEAT_SECONDS,
            max_wait=MAX_WAIT,
        )

    def worker_name(self) -> str:
        """The name set, else that of the broker account, else a random one."""
        return self.worker or self.account_name or f"w{secrets.token_hex(3)}"

    def max_tokens(self, max_positions: int) -> int:
        """The longest sequence to accept with a model that takes `max_positions`."""
        return min(self.max_context or max_positions, max_positions)
