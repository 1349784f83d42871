"""What one generation may set in place of the agent's settings.

Law: an option means what the setting of the same name means, and is checked alike. An option that changes the
scheme drops the settings that belong to the agent's own scheme, so that any request can choose any scheme.
"""

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any, TypedDict

from common.protocol.grammar import Grammar
from edge_agent.config import AgentConfig
from edge_agent.errors import ConfigError


class Options(TypedDict, total=False):
    """Each is absent or None for the agent's own; `template_vars` are added to the agent's."""

    seed: int | None
    system: str | None  # "": no system prompt
    template_vars: Mapping[str, object] | None
    raw: bool | None
    scheme: str | None
    threshold: float | None
    risk: float | None
    on_cloud_loss: str | None
    temperature: float | None
    top_k: int | None
    top_p: float | None
    min_p: float | None
    repetition_penalty: float | None
    presence_penalty: float | None
    frequency_penalty: float | None
    max_tokens: int | None
    stop: Sequence[str] | None
    grammar: Grammar | None  # what the answer must match
    tools: Sequence[Mapping[str, object]] | None  # that it may call, as in OpenAI's API
    tool_choice: str | Mapping[str, object] | None
    parallel_tool_calls: bool | None


_OF_A_PROMPT = (  # not in the config of a generation
    *("seed", "system", "template_vars", "grammar"),
    *("tools", "tool_choice", "parallel_tool_calls"),
)
_OF_A_SCHEME = (
    "scheme",
    "threshold",
    "risk",
    "audit",
    "rejection_cost",
    "max_ids",
    "byte_price",
    "window",
    "block_length",
)


def configured(config: AgentConfig, options: Options) -> AgentConfig:
    """The config of one generation; ConfigError for an option that is unknown or out of range.

    `risk` without a scheme chooses opportunistic, which is the one that keeps it, unless the agent's is auto.
    """
    given: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
    if unknown := given.keys() - Options.__annotations__.keys():
        raise ConfigError(f"unknown option {sorted(unknown)[0]!r}: use {', '.join(Options.__annotations__)}")
    for name in _OF_A_PROMPT:
        given.pop(name, None)
    if isinstance(given.get("stop"), str):
        raise ConfigError("`stop` must be a list of texts")
    if "stop" in given:
        given["stop"] = tuple(given["stop"])
    if not given:
        return config
    if "risk" in given and not (config.chosen_scheme.measures_risk or config.chosen_scheme.may_stream):
        given.setdefault("scheme", "opportunistic")
    dropped: dict[str, Any] = {}
    if given.get("scheme", config.chosen_scheme.name) != config.chosen_scheme.name:
        dropped = {one.name: one.default for one in fields(AgentConfig) if one.name in _OF_A_SCHEME}
    elif "risk" in given or "threshold" in given:  # each decides the threshold
        dropped = {"risk": None, "threshold": None, "rejection_cost": 0.0}
    return replace(config, **{**dropped, **given})
