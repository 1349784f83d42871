"""Everything an app must expect of an agent is an AgentError, with its own class for each cause."""

import asyncio
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from common.link import LinkError
from edge_agent import (
    AgentConfig,
    AgentError,
    BrokerError,
    CalibrationError,
    ConfigError,
    EdgeAgent,
    MetricsError,
    ModelError,
    PromptError,
)
from edge_agent.errors import raised_as
from evaluation.local.broker import free_port

ALONE: dict[str, Any] = {"scheme": "slm", "max_tokens": 3}  # without a broker
TOO_LONG = "turn on the light " * 400


async def opened(**settings: Any) -> None:
    async with EdgeAgent.open(AgentConfig(**settings)):
        pass


def test_a_setting_out_of_range_is_a_config_error_and_a_value_error() -> None:
    with pytest.raises(ConfigError, match="`max_tokens` must be between 1 and 4096, got 0") as caught:
        AgentConfig(max_tokens=0)
    assert isinstance(caught.value, AgentError)
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize("settings", [{"device": "a/b"}, {"pool": "correction"}, {"root": "a/b/c"}])
def test_a_name_that_cannot_be_part_of_a_topic_is_a_config_error(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        AgentConfig(**settings)


@pytest.mark.parametrize(
    ("settings", "kind", "message"),
    [
        ({"model": "/nowhere/at-all"}, ModelError, "no model folder at /nowhere/at-all"),
        ({"calibration": "/nowhere.json"}, CalibrationError, "cannot read the calibration /nowhere.json"),
        ({"broker": "localhost"}, BrokerError, "mqtt://host:port"),
        ({"broker": "mqtt://two..dots"}, ConfigError, "`broker` 'mqtt://two..dots' has no valid host name"),
        ({"username": "me", "password_file": "/nowhere"}, ConfigError, "cannot read the password file"),
    ],
)
def test_an_agent_that_cannot_open_raises_by_cause(
    settings: dict[str, str], kind: type[AgentError], message: str
) -> None:
    with pytest.raises(kind, match=message):
        asyncio.run(opened(**settings))


def test_a_missing_broker_is_a_broker_error_that_names_the_setting() -> None:
    port = free_port()
    with pytest.raises(BrokerError, match=rf"no broker at 127\.0\.0\.1:{port} .*set `broker`"):
        asyncio.run(opened(broker=f"mqtt://127.0.0.1:{port}"))


def test_a_port_in_use_is_a_metrics_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(MetricsError, match=rf"cannot serve metrics on 127\.0\.0\.1:{port}"):
            asyncio.run(opened(**ALONE, metrics_port=port))


@pytest.mark.parametrize("prompt", [TOO_LONG, "\udcff", [{"role": "system", "content": "x"}]])
def test_a_prompt_that_the_model_cannot_take_is_a_prompt_error(
    prompt: Any, draft_folder: Callable[[str], Path]
) -> None:
    async def ask() -> None:
        async with EdgeAgent.open(AgentConfig(**ALONE, model=str(draft_folder("llama")))) as agent:
            with pytest.raises(PromptError):
                agent.generate(prompt)

    asyncio.run(ask())


def test_an_error_of_the_app_itself_leaves_the_agent_as_it_is() -> None:
    async def fail() -> None:
        async with EdgeAgent.open(AgentConfig(**ALONE)):
            raise LinkError("of the app's own link")

    with pytest.raises(LinkError, match="of the app's own link"):
        asyncio.run(fail())


def test_an_error_that_is_raised_as_another_keeps_its_message_and_names_its_cause() -> None:
    cause = LinkError("the broker is away")
    with pytest.raises(BrokerError, match="the broker is away") as caught, raised_as(BrokerError, LinkError):
        raise cause
    assert caught.value.__cause__ is cause
