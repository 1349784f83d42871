"""Whether and what the device announces to Home Assistant, by its config.

Law: without the setting nothing is sent outside the device's own tree. `off` sends an empty message, which
removes the device and its entities.
"""

import ipaddress
import json
from dataclasses import dataclass

from common.process.version import release
from common.protocol.topics import Topics, discovery
from edge_agent.config import AgentConfig
from edge_agent.home_assistant.discovery import Described, description
from edge_agent.policy.schemes import SCHEMES


@dataclass(frozen=True, slots=True)
class Announcement:
    """One retained message; `payload` is None when nothing is to be sent."""

    topic: str
    payload: bytes | None

    @classmethod
    def of(cls, config: AgentConfig) -> "Announcement":
        """What this config wants announced."""
        topic = discovery(config.device_name)
        match config.home_assistant:
            case "on":
                described = Described(
                    config.device_name, config.served_name, release(), list(SCHEMES), page_of(config)
                )
                content = description(described, Topics(config.root))
                return cls(topic, json.dumps(content, ensure_ascii=False).encode())
            case "off":
                return cls(topic, b"")
            case _:
                return cls(topic, None)

    def message(self) -> tuple[str, bytes] | None:
        """The topic and the payload to retain there."""
        return None if self.payload is None else (self.topic, self.payload)


def page_of(config: AgentConfig) -> str | None:
    """The address of the agent's page, where the config names one that other machines can open."""
    host = config.http_host
    try:
        address = ipaddress.ip_address(host)
        if address.is_loopback or address.is_unspecified:
            return None
        host = f"[{host}]" if address.version == 6 else host
    except ValueError:
        if host == "localhost":
            return None
    return f"http://{host}:{config.http_port}/" if config.http_port else None
