"""The way in for apps over MQTT, as `edge-agent serve` enters it."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from edge_agent.app_topics.app_side import AppSide
from edge_agent.config import AgentConfig
from edge_agent.errors import ConfigError
from edge_agent.service.service import Service


@asynccontextmanager
async def serving(service: Service, config: AgentConfig) -> AsyncGenerator[None]:
    """Answer apps within the block; the agent must have been opened with `for_apps`."""
    line = service.agent.app_line
    if line is None:
        raise ConfigError("this agent was opened without the topics of apps: open it with for_apps=True")
    async with AppSide(service, line, config).running():
        yield
