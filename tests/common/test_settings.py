"""Settings: everything a person writes, in any of the three places, is used or is an error."""

import argparse
import dataclasses
import json
import re
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

import pytest

from cloud_worker.config import ENV_PREFIX as WORKER_PREFIX
from cloud_worker.config import WorkerConfig
from common.process.broker_config import BrokerConfig
from common.process.settings import CommandLine, SettingsError, add_flags, load, with_flags
from edge_agent.config import ENV_PREFIX as AGENT_PREFIX
from edge_agent.config import AgentConfig
from edge_agent.errors import ConfigError

Config = TypeVar("Config", bound=BrokerConfig)

KINDS: dict[type[BrokerConfig], str] = {AgentConfig: AGENT_PREFIX, WorkerConfig: WORKER_PREFIX}
FIELDS = [(kind, field) for kind in KINDS for field in dataclasses.fields(kind)]
IDS = [f"{kind.__name__}.{field.name}" for kind, field in FIELDS]

# settings that take only certain words or numbers; the others take any value of their type
VALUES: dict[str, object] = {
    "broker": "mqtt://elsewhere:1884",
    "root": "my/root",
    "pool": "other",
    "device": "cpu",
    "scheme": "coupled",
    "estimator": "entropy",
    "resolution": 65536,
    "on_cloud_loss": "wait",
    "power": "eco",
    "http_key": "at-least-8",
    "http_auth": False,
    "http_origins": ("https://one.example", "https://two.example"),
    "home_assistant": "on",
    "template_vars": '{"enable_thinking": false}',
    "log_level": "debug",
    "log_format": "json",
    "dtype": "bfloat16",
    "engine": "vllm",
    "engine_url": "https://vllm:8000/v1",
}
SERVER = ("--engine", "vllm", "--engine-url", "http://vllm:8000")
NEEDS = {  # settings that need another one
    "rejection_cost": ("--scheme", "u-hlm"),
    "byte_price": ("--max-ids", "0"),
    "engine": SERVER[2:],
    "engine_url": SERVER[:2],
    "engine_key_file": SERVER,
    "engine_model": SERVER,
}
EXAMPLES = {str: "text", int: 7, float: 0.25, bool: True}


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for prefix in KINDS.values():
        for name in [field.name for field in dataclasses.fields(BrokerConfig)] + ["CONFIG"]:
            monkeypatch.delenv(prefix + name.upper(), raising=False)


def settings(kind: type[Config], *arguments: str) -> Config:
    parser = CommandLine(prog="command")
    add_flags(parser, kind, KINDS[kind])
    return load(kind, parser.parse_args(arguments), KINDS[kind])


def example(kind: type, name: str) -> object:
    """A value of the field's type that differs from its default."""
    if name in VALUES:
        return VALUES[name]
    hint = get_type_hints(kind)[name]
    if get_origin(hint) is tuple:
        return ("one", "two")
    return next(value for of, value in EXAMPLES.items() if of in (hint, *get_args(hint)))


def toml(value: object) -> str:
    match value:
        case bool():
            return str(value).lower()
        case tuple():
            return "[" + ", ".join(f'"{entry}"' for entry in value) + "]"
        case str():
            return json.dumps(value)
        case _:
            return str(value)


def as_flags(name: str, value: object) -> list[str]:
    flag = "--" + name.replace("_", "-")
    match value:
        case bool():
            return [flag if value else "--no-" + flag.removeprefix("--")]
        case tuple():
            return [part for entry in value for part in (flag, str(entry))]
        case _:
            return [flag, str(value)]


@pytest.mark.parametrize(("kind", "field"), FIELDS, ids=IDS)
def test_every_setting_is_a_flag_a_variable_and_a_key(
    kind: type[BrokerConfig], field: dataclasses.Field[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    value = example(kind, field.name)
    assert value != field.default
    file = tmp_path / "settings.toml"
    file.write_text(f"{field.name} = {toml(value)}\n")
    needs = NEEDS.get(field.name, ())
    assert getattr(settings(kind, "--config", str(file), *needs), field.name) == value
    if not field.metadata["secret"]:
        assert getattr(settings(kind, *as_flags(field.name, value), *needs), field.name) == value
    text = ",".join(value) if isinstance(value, tuple) else str(value)
    monkeypatch.setenv(KINDS[kind] + field.name.upper(), text)
    assert getattr(settings(kind, *needs), field.name) == value


@pytest.mark.parametrize("kind", KINDS)
def test_without_any_source_the_defaults_hold(kind: type[BrokerConfig]) -> None:
    assert settings(kind) == kind()


def test_flags_win_over_the_environment_that_over_the_file_and_that_over_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "settings.toml"
    file.write_text('pool = "file"\nusername = "file"\nscheme = "coupled"\n')
    monkeypatch.setenv("EDGE_AGENT_CONFIG", str(file))
    monkeypatch.setenv("EDGE_AGENT_POOL", "environment")
    monkeypatch.setenv("EDGE_AGENT_USERNAME", "environment")
    config = settings(AgentConfig, "--pool", "flag")
    assert (config.pool, config.username, config.scheme) == ("flag", "environment", "coupled")
    assert config.max_ids == AgentConfig().max_ids


def test_the_config_flag_wins_over_its_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "flag.toml").write_text('pool = "flag"')
    monkeypatch.setenv("EDGE_AGENT_CONFIG", str(tmp_path / "missing.toml"))
    assert settings(AgentConfig, "--config", str(tmp_path / "flag.toml")).pool == "flag"


def test_a_flag_may_be_switched_off_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGE_AGENT_RAW", "yes")
    assert settings(AgentConfig).raw is True
    assert settings(AgentConfig, "--no-raw").raw is False


def test_an_empty_variable_is_an_empty_list(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGE_AGENT_STOP", "")
    assert settings(AgentConfig).stop == ()


# -- secrets -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_secret_has_no_flag(kind: type[BrokerConfig], capsys: pytest.CaptureFixture[str]) -> None:
    parser = CommandLine(prog="command")
    add_flags(parser, kind, KINDS[kind])
    assert "--password " not in parser.format_help()
    with pytest.raises(SystemExit):
        parser.parse_args(["--password", "hush"])
    assert "hush" not in capsys.readouterr().err


def test_a_password_file_gives_its_first_line(tmp_path: Path) -> None:
    path = tmp_path / "password"
    path.write_bytes(b"open sesame\r\nnot this\n")
    config = AgentConfig(username="me", password_file=str(path))
    assert config.link_settings("me").password == "open sesame"


@pytest.mark.parametrize("setting", ["password_file", "key_file"])
@pytest.mark.parametrize(("mode", "is_open"), [(0o600, False), (0o640, False), (0o644, True)])
def test_a_secret_that_everyone_can_read_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, setting: str, mode: int, is_open: bool
) -> None:
    path = tmp_path / "secret"
    path.write_text("open sesame")
    path.chmod(mode)
    config = AgentConfig(broker="mqtts://broker", username="me", cert_file="cert.pem")
    dataclasses.replace(config, **{setting: str(path)}).link_settings("me")
    assert (f"chmod 600 {path}" in caplog.text) == is_open


@pytest.mark.parametrize("content", [None, b"\xff\xfe\x80"])
def test_a_password_file_that_cannot_be_read_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "password"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=re.escape(str(path))):
        AgentConfig(username="me", password_file=str(path)).link_settings("me")


def test_a_password_is_not_shown_with_the_link_settings() -> None:
    shown = repr(AgentConfig(username="me", password="hush").link_settings("me"))
    assert "hush" not in shown


# -- mistakes ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "meant"), [("temprature", "temperature"), ("cloud-timeout", "cloud_timeout")]
)
def test_an_unknown_key_is_an_error_that_guesses_what_was_meant(tmp_path: Path, key: str, meant: str) -> None:
    (tmp_path / "c.toml").write_text(f"{key} = 1")
    with pytest.raises(SettingsError, match=f"{key}.*did you mean {meant}\\?"):
        settings(AgentConfig, "--config", str(tmp_path / "c.toml"))


def test_an_unknown_variable_is_an_error_that_guesses_what_was_meant(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLOUD_WORKER_MODLE", "x")
    with pytest.raises(SettingsError, match=r"CLOUD_WORKER_MODLE.*did you mean model\?"):
        settings(WorkerConfig)


@pytest.mark.parametrize(
    ("flag", "hint"),
    [
        ("--temprature", "did you mean --temperature?"),
        ("--temp", "did you mean --temperature?"),
        ("--temprature=1", "did you mean --temperature?"),
        ("--frobnicate", "see --help"),
    ],
)
def test_an_unknown_flag_is_one_sentence_that_guesses_what_was_meant(
    flag: str, hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        settings(AgentConfig, flag, "1")
    said = capsys.readouterr().err
    assert ended.value.code == 2
    assert said.count("\n") == 1
    assert f"unknown flag {flag}" in said
    assert hint in said


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("max_ids = 3.5", "a whole number"),
        ("max_ids = true", "a whole number"),
        ('max_ids = "many"', "a whole number"),
        ('temperature = "warm"', "a number"),
        ("temperature = 1" + "0" * 400, "a number"),
        ('raw = "perhaps"', "true or false"),
        ("raw = 2", "true or false"),
        ("pool = 5", "text"),
        ("pool = 2026-01-01", "text"),
        ("pool = []", "text"),
        ('stop = "end"', "a list of texts"),
        ("stop = [1]", "a list of texts"),
        ('scheme = "lossles"', "is not one of slm"),
        ("scheme = []", "is not one of slm"),
    ],
)
def test_a_value_of_the_wrong_type_is_an_error_that_says_the_right_one(
    tmp_path: Path, line: str, expected: str
) -> None:
    file = tmp_path / "c.toml"
    file.write_text(line)
    with pytest.raises(SettingsError) as error:
        settings(AgentConfig, "--config", str(file))
    assert expected in str(error.value)
    assert line.partition(" ")[0] in str(error.value)


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--max-ids", "many"], "--max-ids: expected a whole number, got 'many'"),
        (["--temperature", ""], "--temperature: expected a number, got ''"),
        (["--scheme", "best"], "--scheme: 'best' is not one of slm"),
    ],
)
def test_a_flag_of_the_wrong_type_is_named(flags: list[str], sentence: str) -> None:
    with pytest.raises(SettingsError, match=re.escape(sentence)):
        settings(AgentConfig, *flags)


@pytest.mark.parametrize(
    "content",
    [
        b"pool = ",
        b"pool",
        b"\xff\xfe",
        b"x = " + b"9" * 5000,
        b"x = " + b"[" * 5000,
        b'pool = "a"\npool = "b"',
    ],
)
def test_a_file_that_is_no_toml_is_named(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "broken.toml"
    file.write_bytes(content)
    with pytest.raises(SettingsError, match=r"broken.toml is not valid TOML"):
        settings(AgentConfig, "--config", str(file))


@pytest.mark.parametrize("name", ["missing.toml", "."])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(SettingsError, match="cannot read the config file"):
        settings(AgentConfig, "--config", str(tmp_path / name))


@pytest.mark.parametrize(
    ("kind", "flags"),
    [
        (AgentConfig, ["--threshold", "1.5"]),
        (AgentConfig, ["--threshold", "nan"]),
        (AgentConfig, ["--max-ids", "-1"]),
        (AgentConfig, ["--uplink-probability", "-0.1"]),
        (AgentConfig, ["--theta", "2"]),
        (AgentConfig, ["--window", "33"]),
        (AgentConfig, ["--block-length", "65"]),
        (AgentConfig, ["--temperature", "-1"]),
        (AgentConfig, ["--temperature", "inf"]),
        (AgentConfig, ["--top-k", "-1"]),
        (AgentConfig, ["--top-p", "0"]),
        (AgentConfig, ["--seed", "-1"]),
        (AgentConfig, ["--seed", str(2**64)]),
        (AgentConfig, ["--max-tokens", "0"]),
        (AgentConfig, ["--cloud-timeout", "0"]),
        (AgentConfig, ["--num-threads", "-1"]),
        (AgentConfig, ["--resolution", "100"]),
        (AgentConfig, ["--device", "kitchen/light"]),
        (AgentConfig, ["--pool", "correction"]),
        (AgentConfig, ["--root", "a/b/c"]),
        (AgentConfig, ["--root", "a/#"]),
        (WorkerConfig, ["--worker", "w+1"]),
        (WorkerConfig, ["--pool", "a b"]),
        (WorkerConfig, ["--root", ""]),
        (WorkerConfig, ["--cache-mb", "0"]),
        (WorkerConfig, ["--chunk-tokens", "0"]),
        (WorkerConfig, ["--max-sessions", "0"]),
        (WorkerConfig, ["--max-sessions-per-device", "0"]),
        (WorkerConfig, ["--max-batch", "0"]),
        (WorkerConfig, ["--max-queue", "-5"]),
        (WorkerConfig, ["--num-threads", "-1"]),
        (WorkerConfig, ["--max-context", "-1"]),
    ],
)
def test_a_value_out_of_range_is_refused_with_one_sentence(
    kind: type[BrokerConfig], flags: list[str]
) -> None:
    with pytest.raises(SettingsError) as error:
        settings(kind, *flags)
    assert "\n" not in str(error.value)
    word = flags[0].strip("-").replace("-", "_")
    assert word in str(error.value).replace("topic root", "root").replace("-", "_")


@pytest.mark.parametrize("kind", KINDS)
def test_help_names_every_setting_and_its_default(kind: type[BrokerConfig]) -> None:
    parser = argparse.ArgumentParser(prog="command")
    add_flags(parser, kind, KINDS[kind])
    text = " ".join(parser.format_help().split())
    for field in dataclasses.fields(kind):
        if not field.metadata["secret"]:
            assert "--" + field.name.replace("_", "-") in text
            if isinstance(field.default, int | float) and not isinstance(field.default, bool):
                assert f"(default: {field.default})" in text


@pytest.mark.parametrize(
    ("kind", "groups"),
    [
        (
            AgentConfig,
            {
                "connection": ("broker", "device"),
                "model": ("model", "providers"),
                "scheme": ("scheme", "window"),
                "risk": ("risk", "calibration"),
                "sampling": ("temperature", "seed"),
                "text": ("max_tokens", "stop"),
                "serving": ("http_port", "home_assistant"),
                "monitoring": ("metrics_port", "log_level"),
            },
        ),
        (
            WorkerConfig,
            {
                "connection": ("broker", "worker"),
                "model": ("model", "dtype"),
                "limits": ("cache_mb", "max_queue"),
                "monitoring": ("status_interval", "log_level"),
            },
        ),
    ],
)
def test_help_groups_the_settings(kind: type[BrokerConfig], groups: dict[str, tuple[str, ...]]) -> None:
    parser = argparse.ArgumentParser(prog="command")
    add_flags(parser, kind, KINDS[kind])
    _, *sections = re.split(r"^(\w+):$", parser.format_help(), flags=re.MULTILINE)
    texts = dict(zip(sections[::2], sections[1::2], strict=True))
    assert list(texts) == ["options", *groups]
    for title, names in groups.items():
        for name in names:
            assert "  --" + name.replace("_", "-") in texts[title], name


def test_a_command_line_names_a_setting_as_its_flag() -> None:
    message = "set `metrics_port`, not `password`; run `edge-agent export` in `nowhere`"
    shown = "set --metrics-port, not `password`; run `edge-agent export` in `nowhere`"
    assert with_flags(message, AgentConfig) == shown


def test_a_tilde_in_a_variable_is_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "agent.toml").write_text('username = "me"\npassword_file = "~/password"')
    (tmp_path / "password").write_text("hush")
    monkeypatch.setenv("EDGE_AGENT_CONFIG", "~/agent.toml")
    assert settings(AgentConfig).link_settings("me").password == "hush"


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (
            ("--scheme", "lossless", "--risk", "0.02"),
            "`risk` is for the scheme opportunistic: lossless measures no risk",
        ),
        (
            ("--scheme", "u-hlm", "--audit", "1"),
            "`audit` is for the scheme opportunistic: u-hlm measures no risk",
        ),
        (
            ("--rejection-cost", "1"),
            "`rejection_cost` is for schemes that skip certain tokens, not for lossless",
        ),
        (
            ("--scheme", "opportunistic", "--risk", "0.02", "--threshold", "0.1"),
            "`threshold` and `risk` each decide the threshold: set one of them",
        ),
        (
            ("--scheme", "opportunistic", "--risk", "0.02", "--rejection-cost", "1"),
            "`risk` and `rejection_cost` each decide the threshold: set one of them",
        ),
        (("--byte-price", "0.1"), "`byte_price` is for `max_ids` 0: set both, or neither"),
        (("--scheme", "cu-hlm-offline", "--max-ids", "0"), "`max_ids` 0 keeps the text exact"),
        (("--scheme", "opportunistic", "--risk", "0"), "`risk` must be between 1e-06 and 1, got 0"),
    ],
)
def test_settings_that_would_have_no_effect_or_two_are_refused(flags: tuple[str, ...], sentence: str) -> None:
    with pytest.raises(SettingsError, match=re.escape(sentence)):
        settings(AgentConfig, *flags)


@pytest.mark.parametrize(
    ("given", "scheme"),
    [
        (AgentConfig(), "lossless"),
        (AgentConfig(risk=0.02), "opportunistic"),
        (AgentConfig(audit=0.5), "opportunistic"),
    ],
)
def test_the_scheme_follows_from_what_is_asked_of_it(given: AgentConfig, scheme: str) -> None:
    assert given.chosen_scheme.name == scheme


# -- variables that Kubernetes sets for a service with our name --------------------------------------------

SERVICES = {
    "SERVICE_HOST": "10.96.0.12",
    "SERVICE_PORT": "1883",
    "SERVICE_PORT_MQTT": "1883",
    "PORT": "tcp://10.96.0.12:1883",
    "PORT_1883_TCP": "tcp://10.96.0.12:1883",
    "PORT_1883_TCP_PROTO": "tcp",
    "PORT_1883_TCP_PORT": "1883",
    "PORT_1883_TCP_ADDR": "10.96.0.12",
    "PORT_53_UDP": "udp://[fd00::1]:53",
    "PORT_53_UDP_ADDR": "fd00::1",
    "METRICS_SERVICE_HOST": "10.96.0.13",
    "METRICS_SERVICE_PORT": "9100",
    "METRICS_PORT_9100_TCP_ADDR": "10.96.0.13",
}


@pytest.mark.parametrize("kind", KINDS)
def test_variables_of_kubernetes_are_left_alone(
    kind: type[BrokerConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in SERVICES.items():
        monkeypatch.setenv(KINDS[kind] + name, value)
    assert settings(kind) == kind()


@pytest.mark.parametrize("kind", [AgentConfig, WorkerConfig])
def test_a_service_for_the_metrics_does_not_pass_for_their_port(
    kind: type[AgentConfig] | type[WorkerConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KINDS[kind] + "METRICS_PORT", "tcp://10.96.0.13:9100")
    assert settings(kind).metrics_port == 0
    monkeypatch.setenv(KINDS[kind] + "METRICS_PORT", "9100")
    assert settings(kind).metrics_port == 9100
    monkeypatch.setenv(KINDS[kind] + "METRICS_PORT", "http")
    with pytest.raises(SettingsError, match="METRICS_PORT"):
        settings(kind)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "1883"),
        ("PORTS", "tcp://10.96.0.12:1883"),
        ("SERVICE_HOST", "broker.example.org"),
        ("SERVICE_HOSTS", "10.96.0.12"),
        ("SERVICE_PORT", "mqtt"),
        ("PORT_1883_TCP_ADDR", "x"),
        ("PORT_1883_TCP_NAME", "1"),
        ("HOST", "10.96.0.12"),
    ],
)
def test_other_unknown_variables_stay_errors(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(AGENT_PREFIX + name, value)
    with pytest.raises(SettingsError, match=f"unknown environment variable {AGENT_PREFIX}{name}"):
        settings(AgentConfig)


def test_the_home_of_an_unknown_user_is_a_file_that_does_not_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGE_AGENT_CONFIG", "~nobody-of-that-name/agent.toml")
    with pytest.raises(SettingsError, match=r"config file ~nobody-of-that-name/agent\.toml"):
        settings(AgentConfig)
    monkeypatch.delenv("EDGE_AGENT_CONFIG")
    with pytest.raises(ConfigError, match="~nobody-of-that-name/password"):
        AgentConfig(username="me", password_file="~nobody-of-that-name/password").link_settings("me")
