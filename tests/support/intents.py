"""Home Assistant's tools and the list of entities in its prompt, as release 2026.11 sends them, in part."""

from typing import Any

_PLACE = {name: {"type": "string"} for name in ("name", "area", "floor")}
_DOMAINS = {"type": "array", "items": {"type": "string"}}
_CLASSES = {
    "type": "array",
    "items": {"type": "string", "enum": ["blind", "curtain", "shutter", "shade", "tv"]},
}
_PERCENT = {"allOf": [{"type": "integer"}, {"type": "number", "minimum": 0, "maximum": 100}]}
_ANYWHERE = {**_PLACE, "domain": _DOMAINS, "device_class": _CLASSES}
PROMPT = """You are a voice assistant for Home Assistant.

Static Context: An overview of the areas and the devices in this smart home:
- names: Kitchen light
  domain: light
  areas: Kitchen
- names: Ceiling, Big light
  domain: light
  areas: Living Room
- names: 'Floor lamp'
  domain: light
  areas: Living Room
- names: Office plug
  domain: switch
  areas: Office
- names: Robot
  domain: vacuum
  areas: Hallway
- names: Shopping list
  domain: todo

When controlling Home Assistant always call the intent tools."""


def tool(name: str, properties: dict[str, Any], *required: str) -> dict[str, Any]:
    """A tool as in OpenAI's API."""
    parameters: dict[str, Any] = {"type": "object", "properties": properties, "additionalProperties": False}
    if required:
        parameters["required"] = list(required)
    return {"type": "function", "function": {"name": name, "parameters": parameters}}


INTENTS = [
    tool("intent__HassTurnOn", _ANYWHERE),
    tool("intent__HassTurnOff", _ANYWHERE),
    tool("intent__HassSetPosition", {**_ANYWHERE, "position": _PERCENT}, "position"),
    tool(
        "light__HassLightSet",
        {
            **_PLACE,
            "domain": {"type": "array", "items": {"type": "string", "enum": ["light"]}},
            "color": {"type": "string"},
            "temperature": {"type": "integer", "minimum": 0},
            "brightness": {"type": "integer", "minimum": 0, "maximum": 100},
        },
    ),
    tool("climate__HassClimateSetTemperature", {**_PLACE, "temperature": {"type": "number"}}, "temperature"),
    tool("vacuum__HassVacuumReturnToBase", {**_PLACE, "domain": _DOMAINS}),
    tool("timer__HassStartTimer", {"minutes": {"type": "integer", "minimum": 0}, "name": {"type": "string"}}),
    tool("todo__HassListAddItem", {"item": {"type": "string"}, "name": {"type": "string"}}, "item", "name"),
]
WEATHER = tool(
    "get_weather",
    {
        "city": {"enum": ["Paris", "Rome"]},
        "days": {"type": "integer", "minimum": 1, "maximum": 9},
        "unit": {"enum": ["c", "f"]},
    },
    "city",
    "unit",
)
CLOCK = tool("get_time", {})


def asked(command: str) -> list[dict[str, Any]]:
    """A command, as Home Assistant asks it."""
    return [{"role": "system", "content": PROMPT}, {"role": "user", "content": command}]
