"""Actions of the home as calls of Home Assistant's intents, and of tools that take actions as they are. Pure.

Law: an action becomes a call only if the call means all of it, and its arguments fit the tool's own schema.
So nothing that a tool cannot do is half done. A call becomes the action that it would have come from.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edge_agent.tools.action_schema import Deed, deeds
from edge_agent.tools.call import Call
from edge_agent.tools.exposed import Entity
from edge_agent.tools.fitting import fits
from edge_agent.tools.home import DEVICES, ROOM_NAMES
from edge_agent.tools.tool import Json, Tool

Action = Mapping[str, Any]

_DOMAINS: dict[str, str] = {
    **dict.fromkeys(("light", "lamp"), "light"),
    **dict.fromkeys(("tv", "speaker"), "media_player"),
    **dict.fromkeys(("lock", "front_door"), "lock"),
    **dict.fromkeys(("blinds", "window"), "cover"),
    **dict.fromkeys(("plug", "oven", "coffee_machine", "sprinkler"), "switch"),
    **dict.fromkeys(("washing_machine", "dishwasher"), "switch"),
    "heating": "climate",
    "fan": "fan",
    "vacuum": "vacuum",
}
_CLASSES: dict[str, list[str]] = {
    "blinds": ["blind", "curtain", "shutter", "shade"],
    "window": ["window"],
    "tv": ["tv"],
    "speaker": ["speaker"],
}
_TURN_ON = ("on", "open", "lock", "start")
_TURN_OFF = ("off", "close", "unlock", "stop")
_WARM_WHITE = 2700  # kelvin: it is no name of a colour there
_CONDITIONS = ("when", "after", "minutes", "excluded")
_INTENTS = frozenset(
    {"HassTurnOn", "HassTurnOff", "HassLightSet", "HassClimateSetTemperature", "HassFanSetSpeed"}
    | {"HassSetPosition", "HassSetVolume", "HassSetVolumeRelative", "HassMediaSearchAndPlay"}
    | {"HassVacuumReturnToBase", "HassVacuumCleanArea", "GetLiveContext", "HassStartTimer"}
)
_FIELDS = ("device", "action")  # a tool with these takes actions as they are


@dataclass(frozen=True, slots=True)
class Intents:
    """The tools that may be called, and the entities that are there, if they are known."""

    tools: tuple[Tool, ...]
    entities: tuple[Entity, ...] = ()

    @property
    def foreign(self) -> tuple[Tool, ...]:
        """The tools that no action becomes a call of."""
        return tuple(one for one in self.tools if one.base_name not in _INTENTS and not _takes_actions(one))

    @property
    def taking(self) -> tuple[Tool, ...]:
        """The tools that take actions as they are."""
        return tuple(filter(_takes_actions, self.tools))

    def deeds(self) -> list[Deed]:
        """What the tools can do."""
        return [deed for deed in deeds() if any(self.call(one) is not None for one in _examples_of(deed))]

    def call(self, action: Action) -> Call | None:
        """The call that an action means; None where no tool can do it."""
        for tool in self.tools:
            found = dict(action) if _takes_actions(tool) else self._arguments(action, tool)
            if found is not None and fits(found, tool.parameters):
                return Call(tool.name, found)
        return None

    def action(self, call: Call) -> dict[str, Any] | None:
        """The action that a call comes from; None for a call of another kind."""
        tool = next((one for one in self.tools if one.name == call.name), None)
        if tool is None:
            return None
        if _takes_actions(tool):
            return dict(call.arguments)
        part: dict[str, Any] | None = None  # the first that has more arguments: some apps leave zeros out
        for action in _guesses(call):
            meant = self.call(action)
            if (
                meant is not None
                and meant.name == call.name
                and call.arguments.items() <= meant.arguments.items()
            ):
                if len(meant.arguments) == len(call.arguments):
                    return action
                part = part or action
        return part

    def _arguments(self, action: Action, tool: Tool) -> dict[str, Any] | None:
        if any(action.get(name) is not None for name in _CONDITIONS):
            is_timer = tool.base_name == "HassStartTimer" and action.get("device") == "timer"
            return (
                {"minutes": action.get("minutes")} if is_timer and action.get("action") == "start" else None
            )
        given = _given(action, tool.base_name)
        device = str(action.get("device"))
        if given is None or (device not in _DOMAINS):
            return None
        target = self._target(device, str(action.get("room")), tool)
        return None if target is None else {**target, **given}

    def _target(self, device: str, room: str, tool: Tool) -> dict[str, Any] | None:
        """What the call is about: one entity where it is clear which, or all of a kind in an area."""
        known = _properties(tool)
        domain = _DOMAINS[device]
        if tool.base_name == "HassVacuumCleanArea":
            return {}
        if len(DEVICES[device].rooms) == 1:
            return self._only(device, domain, known)
        is_all = room == "all"
        there = [one for one in self.entities if one.domain == domain and (is_all or one.is_in(room))]
        named = [one for one in there if one.is_called(device)]
        if not is_all and len(named or there) == 1 and "name" in known:
            return _within(known, name=(named or there)[0].name, area=there[0].area, domain=[domain])
        area = {} if is_all else {"area": there[0].area if there else ROOM_NAMES[room][0]}
        if not area.keys() <= known.keys():
            return None
        return _within(known, **area, domain=[domain], device_class=_CLASSES.get(device))

    def _only(self, device: str, domain: str, known: Mapping[str, Any]) -> dict[str, Any] | None:
        """There is one in the home: by its name, or the only one of its domain."""
        there = [one for one in self.entities if one.is_called(device)]
        there = there or [one for one in self.entities if one.domain == domain == "vacuum"]
        if "name" not in known:
            return {}
        if not there:
            return {"name": DEVICES[device].names[0]}
        return _within(known, name=there[0].name, domain=[there[0].domain])


def _given(action: Action, intent: str) -> dict[str, Any] | None:
    """The arguments beside those that say what it is about; None if this intent does not mean the action."""
    deed, value = action.get("action"), action.get("value")
    is_vacuum = action.get("device") == "vacuum"
    match intent:
        case "HassTurnOn" if deed in _TURN_ON:
            return {}
        case "HassTurnOff" if deed in _TURN_OFF:
            return {}
        case "HassLightSet" if deed == "brightness":
            return {"brightness": value}
        case "HassLightSet" if deed == "colour":
            return {"temperature": _WARM_WHITE} if value == "warm white" else {"color": value}
        case "HassClimateSetTemperature" if deed == "temperature" and action.get("device") == "heating":
            return {"temperature": value}
        case "HassFanSetSpeed" if deed == "speed" and isinstance(value, int):
            return {"percentage": 20 * value}
        case "HassSetPosition" if deed == "position":
            return {"position": value}
        case "HassSetVolume" if deed == "volume":
            return {"volume_level": value}
        case "HassSetVolumeRelative" if deed in ("louder", "quieter") and isinstance(value, int):
            return {"volume_step": value if deed == "louder" else -value}
        case "HassMediaSearchAndPlay" if deed == "play":
            return {"search_query": value}
        case "HassVacuumReturnToBase" if deed == "dock":
            return {}
        case "HassVacuumCleanArea" if deed == "clean" and is_vacuum:
            return {"area": ROOM_NAMES.get(str(action.get("room")), (str(action.get("room")),))[0]}
        case "GetLiveContext" if deed == "query":
            return {}
        case _:
            return None


def _takes_actions(tool: Tool) -> bool:
    return all(name in _properties(tool) for name in _FIELDS)


def _properties(tool: Tool) -> Json:
    found = tool.parameters.get("properties")
    return found if isinstance(found, Mapping) else {}


def _within(known: Mapping[str, Any], **arguments: object) -> dict[str, Any]:
    """Those that the tool has."""
    return {name: value for name, value in arguments.items() if name in known and value is not None}


def _examples() -> Iterator[dict[str, Any]]:
    for deed in deeds():
        yield from _examples_of(deed)
    yield {"device": "timer", "room": "house", "action": "start", "minutes": 1}


def _examples_of(deed: Deed) -> Iterator[dict[str, Any]]:
    """An action of its kind in each place."""
    value = deed.value
    given = {} if value is None else {"value": value["enum"][0] if "enum" in value else value["minimum"]}
    for room in (*deed.rooms, *(("all",) if deed.has_plural else ())):
        yield {"device": deed.device, "room": room, "action": deed.action, **given}


def _guesses(call: Call) -> Iterator[dict[str, Any]]:
    """Every action with a value that the call has."""
    found: Sequence[Any] = [
        value
        for value in call.arguments.values()
        if isinstance(value, int | str) and not isinstance(value, bool)
    ]
    numbers = [abs(value) for value in found if isinstance(value, int)]
    values = [*found, *numbers, *(number // 20 for number in numbers), "warm white"]
    for action in _examples():
        if "minutes" in action:
            yield from ({**action, "minutes": number} for number in numbers)
        elif "value" in action:
            yield from ({**action, "value": value} for value in values)
        else:
            yield action
