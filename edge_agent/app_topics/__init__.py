"""Apps over MQTT: asks, answers and settings in JSON, below `app/{device}` (docs/apps.md)."""

from edge_agent.app_topics.serving import serving

__all__ = ["serving"]
