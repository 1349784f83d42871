"""The agent that runs on the device: it drafts, decides what to uplink, and owns the sequence.

This is its public face; everything below it may change. Importing it loads nothing else: a name is loaded
when it is first used, so `from edge_agent import AgentConfig` does not load ONNX Runtime. It only declines
that library's telemetry, which must happen before it is loaded (`common.process.telemetry`).

    async with EdgeAgent.open(AgentConfig(broker="mqtt://broker")) as agent:
        async for token in agent.generate("turn on the kitchen light"):
            print(token.text, end="")
"""

from common.process.telemetry import decline_telemetry

TYPE_CHECKING = False  # that of typing, which takes a while to import, before Ctrl-C is handled

if TYPE_CHECKING:
    from common.protocol.grammar import Grammar
    from edge_agent.agent import EdgeAgent
    from edge_agent.config import ENV_PREFIX, AgentConfig
    from edge_agent.errors import (
        AgentError,
        BrokerError,
        BusyError,
        CalibrationError,
        ClosingError,
        ConfigError,
        GenerationError,
        GrammarError,
        MetricsError,
        ModelError,
        PromptError,
        PromptTooLongError,
        ServingError,
    )
    from edge_agent.generation.events import Retraction, Tentative, Token
    from edge_agent.generation.generation import Generation
    from edge_agent.report import Report
    from edge_agent.session.transcript import Fate

__all__ = [
    "ENV_PREFIX",
    "AgentConfig",
    "AgentError",
    "BrokerError",
    "BusyError",
    "CalibrationError",
    "ClosingError",
    "ConfigError",
    "EdgeAgent",
    "Fate",
    "Generation",
    "GenerationError",
    "Grammar",
    "GrammarError",
    "MetricsError",
    "ModelError",
    "PromptError",
    "PromptTooLongError",
    "Report",
    "Retraction",
    "ServingError",
    "Tentative",
    "Token",
]

decline_telemetry()

_HOMES = {
    "ENV_PREFIX": ".config",
    "AgentConfig": ".config",
    "EdgeAgent": ".agent",
    "Fate": ".session.transcript",
    "Generation": ".generation.generation",
    "Grammar": "common.protocol.grammar",
    "Report": ".report",
    "Retraction": ".generation.events",
    "Tentative": ".generation.events",
    "Token": ".generation.events",
}


def _load(name: str) -> object:
    """Load a public name, which happens when it is first used."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module  # here: it takes a while, before Ctrl-C is handled

    value: object = getattr(import_module(_HOMES.get(name, ".errors"), __name__), name)
    globals()[name] = value
    return value


if not TYPE_CHECKING:  # a type checker would take any name for one that exists
    __getattr__ = _load


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
