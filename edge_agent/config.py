"""The settings of an agent; each is a flag, an environment variable EDGE_AGENT_... and a TOML key."""

import re
import socket
from dataclasses import dataclass, fields
from functools import partial
from typing import TYPE_CHECKING

from common.process.broker_config import BrokerConfig
from common.process.log import LOG_FORMATS, LOG_LEVELS
from common.process.settings import SettingsError, option
from common.protocol.limits import LEAST_REPETITION_PENALTY, MAX_PENALTY, MAX_REPETITION_PENALTY
from common.protocol.topics import MAX_NAME_LENGTH, check_name
from common.sampling.distribution import LATTICE_TOTALS
from common.sampling.randomness import MAX_SEED
from edge_agent.device.power import POWERS
from edge_agent.errors import BrokerError, ConfigError, PromptError, raised_as
from edge_agent.policy.policy import MAX_IDS
from edge_agent.policy.schemes import SCHEMES, Form, Scheme
from edge_agent.policy.uncertainty import DEFAULT_ESTIMATOR, ESTIMATORS
from edge_agent.session.settings import OnCloudLoss
from edge_agent.text.template_vars import parse_template_vars

if TYPE_CHECKING:
    from common.link import LinkSettings

ENV_PREFIX = "EDGE_AGENT_"
MAX_TOKENS = 4096
MAX_SLOTS = 16

HTTP_KEY = re.compile(r"[!-~]{8,200}")
_SERVED_NAME = re.compile(r"[A-Za-z0-9._/-]{1,64}")
_ORIGIN = re.compile(r"\*|https?://[A-Za-z0-9.:\[\]_-]+")

_connection = partial(option, group="connection")
_model = partial(option, group="model")
_scheme = partial(option, group="scheme")
_risk = partial(option, group="risk")
_sampling = partial(option, group="sampling")
_text = partial(option, group="text")
_serving = partial(option, group="serving")
_monitoring = partial(option, group="monitoring")


@dataclass(frozen=True, kw_only=True)
class AgentConfig(BrokerConfig):
    """Which model drafts, when the cloud is asked, and how tokens are sampled."""

    model: str = _model("demo", "the draft model: a folder, a hub name, or demo")
    model_file: str | None = _model(None, "the ONNX file to use, if the model has several")
    num_threads: int | None = _model(
        None, "CPU threads of the draft model; 0: one per core (default: the fast cores that are free)"
    )
    power: str = _model(
        "full", "eco: one thread, and the draft model rests as long as it works", choices=POWERS
    )
    slots: int = _model(1, "answers that are generated at once, each with a key/value cache of its own")
    providers: tuple[str, ...] = _model(
        (), "ONNX Runtime execution provider, in order of preference; repeatable"
    )
    prompt_cache: str | None = _model(
        None, "a folder that keeps what the draft model has read, for the next start (default: none)"
    )
    prompt_cache_mb: int = _model(256, "the most that the prompt cache takes, in MiB")
    scheme: str = _scheme(
        "",
        "when and what to send to the target model (default: lossless; opportunistic with a risk or audits)",
        choices=SCHEMES,
    )
    threshold: float | None = _scheme(
        None, "verify tokens with an uncertainty above this; below 0: every token (default: the scheme's)"
    )
    risk: float | None = _risk(
        None, "opportunistic and auto: keep the measured drift per token at this; sets the threshold"
    )
    audit: float | None = _risk(
        None, "opportunistic: measure the skipped tokens of this share of answers, after each answer"
    )
    rejection_cost: float = _risk(
        0.0, "skip a token if asking takes longer than this many seconds times the expected rejection; 0: off"
    )
    calibration: str | None = _risk(
        None, "a file written by `evaluation calibrate` (default: the one beside the model)"
    )
    estimator: str | None = _scheme(
        None,
        f"how uncertainty is measured (default: as in the calibration, else {DEFAULT_ESTIMATOR})",
        choices=ESTIMATORS,
    )
    max_ids: int | None = _scheme(
        None, "ids kept in a truncated distribution (k); 0: as many as are worth their bytes"
    )
    byte_price: float | None = _scheme(
        None, "with max_ids 0: the time of a byte over that of a rejection (default: measured)"
    )
    resolution: int = _scheme(LATTICE_TOTALS[0], f"what quantised counts sum to: {LATTICE_TOTALS}")
    uplink_probability: float = _scheme(0.5, "rand-hlm: the share of tokens sent to be verified")
    theta: float = _scheme(
        0.1, "cu-hlm-online: the tolerated truncation error (the paper publishes no value)"
    )
    window: int | None = _scheme(
        None, "drafts in flight (default: 1 for the papers' schemes, as many as pay for ours)"
    )
    block_length: int | None = _scheme(
        None, "lossless, coupled, auto: tokens in one draft (default: by measured times and rejections)"
    )
    temperature: float | None = _sampling(None, "sampling temperature; 0 is greedy (default: the model's)")
    top_k: int | None = _sampling(None, "sample from the k most probable tokens (default: the model's)")
    top_p: float | None = _sampling(
        None, "sample from the smallest set of tokens with this probability (default: the model's)"
    )
    min_p: float | None = _sampling(
        None, "drop tokens below this share of the largest probability; 0: off (default: the model's)"
    )
    repetition_penalty: float | None = _sampling(
        None, "divide the logits of tokens that the text has; 1: off (default: the model's)"
    )
    presence_penalty: float | None = _sampling(
        None, "subtract this from the logits of tokens that the answer has (default: the model's, or 0)"
    )
    frequency_penalty: float | None = _sampling(
        None, "subtract this for each time that the answer has a token (default: the model's, or 0)"
    )
    seed: int | None = _sampling(None, "the same seed gives the same text (default: random)")
    max_tokens: int = _text(256, "generate at most this many tokens")
    stop: tuple[str, ...] = _text((), "end the answer at this text; repeatable")
    raw: bool = _text(False, "give the prompt to the model as it is, without its chat template")
    system: str | None = _text(None, "the system prompt, for the chat template")
    system_file: str | None = _text(None, "a file with the system prompt")
    template_vars: str | None = _text(
        None, "variables for the chat template in JSON, such as '{\"enable_thinking\": false}'"
    )
    on_cloud_loss: str = _connection(
        OnCloudLoss.FAIL.value,
        "when no worker answers: go on locally, wait, or fail",
        choices=[policy.value for policy in OnCloudLoss],
    )
    cloud_timeout: float = _connection(20.0, "seconds without an answer until the cloud counts as lost")
    device: str = _connection("", "this device's name (default: the user name, or the host's)")
    http_host: str = _serving("127.0.0.1", "address that `serve` listens on; 0.0.0.0: all of this machine")
    http_port: int = _serving(8080, "port of the page and of OpenAI's API; 0: none")
    ollama_port: int = _serving(0, "one more port, for apps that insist on Ollama's 11434; 0: none")
    http_key: str | None = _serving(None, "the key that HTTP clients must send", secret=True)
    http_key_file: str | None = _serving(None, "a file whose first line is the key")
    http_auth: bool = _serving(
        True, "ask HTTP clients for a key if other machines can connect, or a key is set"
    )
    http_origins: tuple[str, ...] = _serving(
        (), "a site whose scripts may use the API, such as https://apps.example; repeatable; *: any"
    )
    served_name: str = _serving("hybrid-lm", "the name of the model in the APIs")
    max_waiting: int = _serving(4, "asks that may wait for their turn; one more is refused")
    shutdown_timeout: float = _serving(10.0, "seconds that running answers get to finish when `serve` ends")
    app_topics: bool | None = _serving(
        None, "answer apps over MQTT, on topics of this device (default: if the scheme needs a broker)"
    )
    home_assistant: str | None = _serving(
        None,
        "on: announce this device to Home Assistant over MQTT; off: take that back (default: neither)",
        choices=("on", "off"),
    )
    metrics_port: int = _monitoring(0, "port of /metrics for Prometheus; 0: off")
    metrics_host: str = _monitoring("127.0.0.1", "address to listen on")
    log_level: str = _monitoring("warning", "the lowest level to log", choices=LOG_LEVELS)
    log_format: str = _monitoring("text", "lines for people, or JSON objects", choices=LOG_FORMATS)

    def __post_init__(self) -> None:
        """Raise ConfigError for a value out of range, and for settings that contradict each other."""
        with raised_as(ConfigError, ValueError):
            super().__post_init__()
            if self.device:
                check_name(self.device, "`device`")
        self._check_choices()
        self._check_ranges()
        self._check_scheme()
        self._check_template()
        self._check_serving()

    def _check_choices(self) -> None:
        for field in fields(self):
            value, choices = getattr(self, field.name), field.metadata["choices"]
            if choices and value is not None and value != field.default and value not in choices:
                raise ConfigError(f"`{field.name}` must be one of {', '.join(choices)}, got {value!r}")

    def _check_ranges(self) -> None:
        ranges: list[tuple[str, float | None, float, float]] = [
            ("threshold", self.threshold, -1, 1),
            ("risk", self.risk, 1e-6, 1),
            ("audit", self.audit, 0, 1),
            ("rejection_cost", self.rejection_cost, 0, 1e6),
            ("max_ids", self.max_ids, 0, MAX_IDS),
            ("byte_price", self.byte_price, 0, 1),
            ("uplink_probability", self.uplink_probability, 0, 1),
            ("theta", self.theta, 0, 1),
            ("window", self.window, 1, 32),
            ("block_length", self.block_length, 1, 64),
            ("temperature", self.temperature, 0, 100),
            ("top_k", self.top_k, 0, 10**6),
            ("top_p", self.top_p, 1e-6, 1),
            ("min_p", self.min_p, 0, 1),
            ("repetition_penalty", self.repetition_penalty, LEAST_REPETITION_PENALTY, MAX_REPETITION_PENALTY),
            ("presence_penalty", self.presence_penalty, -MAX_PENALTY, MAX_PENALTY),
            ("frequency_penalty", self.frequency_penalty, -MAX_PENALTY, MAX_PENALTY),
            ("seed", self.seed, 0, MAX_SEED),
            ("max_tokens", self.max_tokens, 1, MAX_TOKENS),
            ("cloud_timeout", self.cloud_timeout, 0.1, 1e6),
            ("num_threads", self.num_threads, 0, 1024),
            ("slots", self.slots, 1, MAX_SLOTS),
            ("prompt_cache_mb", self.prompt_cache_mb, 1, 1 << 20),
            ("http_port", self.http_port, 0, 65535),
            ("ollama_port", self.ollama_port, 0, 65535),
            ("max_waiting", self.max_waiting, 0, 1000),
            ("shutdown_timeout", self.shutdown_timeout, 0, 3600),
            ("metrics_port", self.metrics_port, 0, 65535),
        ]
        for name, value, low, high in ranges:
            if value is not None and not low <= value <= high:
                raise ConfigError(f"`{name}` must be between {low:g} and {high:g}, got {value:g}")
        if self.resolution not in LATTICE_TOTALS:
            raise ConfigError(f"`resolution` must be one of {LATTICE_TOTALS}, got {self.resolution}")

    def _check_scheme(self) -> None:
        """Refuse a setting that would have no effect, and two that would have the same one."""
        scheme = self.chosen_scheme
        measures = scheme.measures_risk or self.chooses_scheme
        if not measures and (self.risk is not None or self.audit):
            name = "audit" if self.risk is None else "risk"
            raise ConfigError(f"`{name}` is for the scheme opportunistic: {scheme.name} measures no risk")
        if self.rejection_cost and not scheme.skips_certain:
            raise ConfigError(
                f"`rejection_cost` is for schemes that skip certain tokens, not for {scheme.name}"
            )
        if self.max_ids == 0 and scheme.form is Form.TOP_K:
            raise ConfigError(
                f"`max_ids` 0 keeps the text exact, which {scheme.name} is not: give a number of ids"
            )
        if self.byte_price is not None and self.max_ids != 0:
            raise ConfigError("`byte_price` is for `max_ids` 0: set both, or neither")
        givers = {
            "threshold": self.threshold,
            "risk": self.risk,
            "rejection_cost": self.rejection_cost or None,
        }
        given = [f"`{name}`" for name, value in givers.items() if value is not None]
        if len(given) > 1:
            raise ConfigError(f"{' and '.join(given)} each decide the threshold: set one of them")

    def _check_template(self) -> None:
        """Refuse what the chat template could not use."""
        names = ("system", "system_file", "template_vars")
        given = [name for name in names if getattr(self, name) is not None]
        if self.raw and given:
            raise ConfigError(f"`{given[0]}` is for the chat template, which `raw` bypasses: set one of them")
        if self.system is not None and self.system_file is not None:
            raise ConfigError("`system` and `system_file` both give the system prompt: set one of them")
        if self.system is not None and not self.system.strip():
            raise ConfigError("`system` is empty: leave it out")
        if self.template_vars is not None:
            with raised_as(ConfigError, PromptError):
                parse_template_vars(self.template_vars)

    def _check_serving(self) -> None:
        """Refuse a port twice, two keys, and names that no client could use."""
        if self.http_port and self.http_port == self.ollama_port:
            raise ConfigError(
                "`http_port` and `ollama_port` are the same: the API of Ollama is on both anyway"
            )
        if self.http_key is not None and self.http_key_file is not None:
            raise ConfigError("`http_key` and `http_key_file` both give the key: set one of them")
        if not self.http_auth and (self.http_key or self.http_key_file):
            raise ConfigError("a key is set, which `http_auth` false would not ask for: leave one out")
        if self.http_key is not None and not HTTP_KEY.fullmatch(self.http_key):
            raise ConfigError("`http_key` must have 8 to 200 characters without spaces")
        if not _SERVED_NAME.fullmatch(self.served_name):
            raise ConfigError(
                f"`served_name` {self.served_name[:40]!r} must have 1 to 64 of the characters A-Za-z0-9._/-"
            )
        for origin in self.http_origins:
            if not _ORIGIN.fullmatch(origin):
                raise ConfigError(
                    f"`http_origins` has {origin[:80]!r}: write http://host:port, without a path"
                )

    @property
    def chosen_scheme(self) -> Scheme:
        """`scheme`, or the default: opportunistic where risk is to be kept or measured, else lossless."""
        measures = self.risk is not None or bool(self.audit)
        return SCHEMES[self.scheme or ("opportunistic" if measures else "lossless")]

    @property
    def chooses_scheme(self) -> bool:
        """Whether each answer is written by another scheme: auto, where a risk is allowed."""
        return self.chosen_scheme.may_stream and self.risk is not None

    @property
    def needs_cloud(self) -> bool:
        """False when the draft model works alone."""
        return not self.chosen_scheme.drafts or self.chosen_scheme.form is not Form.NOTHING

    @property
    def serves_apps(self) -> bool:
        """Whether `serve` answers apps over MQTT."""
        return self.needs_cloud if self.app_topics is None else self.app_topics

    @property
    def uses_calibration(self) -> bool:
        """Whether anything here depends on a calibration."""
        return self.calibration is not None or self.chosen_scheme.skips_certain

    @property
    def device_name(self) -> str:
        """The device's name on the broker."""
        host = re.sub(r"[^A-Za-z0-9_-]", "-", socket.gethostname())[:MAX_NAME_LENGTH]
        return self.device or self.account_name or host or "device"

    def link_settings(self, client_id: str) -> "LinkSettings":
        """The link's settings; raises BrokerError or ConfigError when they cannot be used."""
        from common.link import LinkError  # loads the MQTT client: a config alone does without

        with raised_as(BrokerError, LinkError), raised_as(ConfigError, SettingsError):
            return super().link_settings(client_id)
