"""A request's options against the agent's settings."""

import asyncio

import pytest

from edge_agent import AgentConfig, ConfigError, EdgeAgent
from edge_agent.draft_model.files import read_info
from edge_agent.draft_model.source import resolve
from edge_agent.options import Options, configured
from edge_agent.text.tokenizer import Text
from edge_agent.tunings import Tunings


def test_without_options_the_config_is_that_of_the_agent() -> None:
    config = AgentConfig(risk=0.01)
    assert configured(config, {}) is config
    assert configured(config, {"scheme": None, "seed": 3, "system": "Be brief."}) is config


def test_a_scheme_of_its_own_drops_what_belongs_to_that_of_the_agent() -> None:
    config = AgentConfig(scheme="opportunistic", risk=0.01, window=2, temperature=0.5)
    found = configured(config, {"scheme": "slm"})
    assert (found.chosen_scheme.name, found.risk, found.window, found.temperature) == ("slm", None, None, 0.5)
    assert configured(config, {"scheme": "opportunistic"}).risk == 0.01


def test_an_agent_in_home_assistant_takes_every_scheme() -> None:
    config = AgentConfig(home_assistant="on", http_port=0)
    assert configured(config, {"scheme": "slm"}).chosen_scheme.name == "slm"


def test_a_risk_chooses_the_scheme_that_keeps_it_and_replaces_a_threshold() -> None:
    assert configured(AgentConfig(), {"risk": 0.02}).chosen_scheme.name == "opportunistic"
    found = configured(AgentConfig(scheme="opportunistic", threshold=0.3), {"risk": 0.02})
    assert (found.risk, found.threshold) == (0.02, None)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scheme": "fast"}, "`scheme` must be one of slm, llm"),
        ({"on_cloud_loss": "panic"}, "`on_cloud_loss` must be one of local, wait, fail"),
        ({"max_tokens": 0}, "`max_tokens` must be between 1 and 4096, got 0"),
        ({"temperature": -1.0}, "`temperature` must be between 0 and 100, got -1"),
        ({"scheme": "lossless", "risk": 0.1}, "`risk` is for the scheme opportunistic"),
        ({"tempo": 3}, "unknown option 'tempo'"),
        ({"stop": "x"}, "`stop` must be a list of texts"),
    ],
)
def test_an_option_that_cannot_be_used_is_refused(options: Options, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        configured(AgentConfig(), options)


def test_an_option_is_the_setting_for_one_generation() -> None:
    async def texts() -> list[str]:
        async with EdgeAgent.open(AgentConfig(scheme="slm", temperature=0, max_tokens=12)) as agent:
            generations = [
                agent.generate("turn on the kitchen light", **options)
                for options in (Options(), Options(max_tokens=3), Options(stop=["device"]), Options())
            ]
            for generation in generations:
                async for _ in generation:
                    pass
            with pytest.raises(ConfigError, match="no connection to a broker"):
                agent.generate("turn on the kitchen light", scheme="lossless")
            return [generation.text for generation in generations]

    whole, short, stopped, again = asyncio.run(texts())
    assert whole == again
    assert whole.startswith(short)
    assert len(short) < len(whole)
    assert stopped == whole.partition("device")[0]


def test_auto_keeps_a_risk_and_takes_no_audit_without_one() -> None:
    config = AgentConfig(scheme="auto")
    assert configured(config, {"risk": 0.02}).chosen_scheme.name == "auto"
    with pytest.raises(ConfigError, match="`audit` is for the scheme opportunistic"):
        AgentConfig(scheme="auto", audit=0.5)


def test_auto_with_a_risk_answers_with_the_scheme_that_was_faster() -> None:
    config, info = AgentConfig(scheme="auto", risk=0.02), read_info(resolve("demo"))
    tunings, names = Tunings(config, info, Text.load(info)), list[str]()
    for _ in range(6):
        chosen = tunings.settled(config)
        names.append(chosen.chosen_scheme.name)
        assert chosen.risk == (0.02 if names[-1] == "opportunistic" else None)
        tunings.faster.ended(names[-1], 2.0 if names[-1] == "opportunistic" else 1.0, 20)
    assert names == ["opportunistic", *["auto"] * 5]
    plain = AgentConfig(scheme="lossless")
    assert tunings.settled(plain) is plain
