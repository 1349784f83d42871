"""What the demo pair writes: a list of actions of devices in rooms, as a JSON schema. Pure.

Law: every list of actions that the pair was taught fits the schema, and what fits it has one meaning.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from edge_agent.tools.home import COLOURS, DEVICES, EVENTS, INSIDE, MUSIC, SCENES, WHOLE_HOUSE

Schema = dict[str, Any]


def _whole(least: int, most: int) -> Schema:
    return {"type": "integer", "minimum": least, "maximum": most}


PERCENT = _whole(0, 100)
_VALUES: dict[str, Schema] = {
    **dict.fromkeys(("brightness", "position", "volume"), PERCENT),
    **dict.fromkeys(("brighter", "dimmer", "louder", "quieter"), PERCENT),
    **dict.fromkeys(("warmer", "cooler"), _whole(1, 10)),
    "temperature": _whole(5, 35),
    "speed": _whole(1, 5),
    "channel": _whole(1, 999),
    "brew": _whole(1, 12),
    "colour": {"enum": list(COLOURS)},
    "play": {"enum": list(MUSIC)},
}
_OVEN = _whole(30, 300)
_MODIFIERS: Schema = {
    "when": {
        "anyOf": [{"enum": list(EVENTS)}, {"type": "string", "pattern": "^([01][0-9]|2[0-3]):[0-5][0-9]$"}]
    },
    "after": _whole(1, 1440),
    "minutes": _whole(1, 1440),
}


def _ref(name: str) -> Schema:
    return {"$ref": f"#/$defs/{name}"}


_WAITING: Schema = {name: _ref(name) for name in _MODIFIERS}


@dataclass(frozen=True, slots=True)
class Deed:
    """An action of a device, in any of `rooms`; in all of them together if it has a plural."""

    device: str
    action: str
    rooms: tuple[str, ...]
    has_plural: bool = False
    may_wait: bool = True  # can have `when`, `after` and `minutes`

    @property
    def value(self) -> Schema | None:
        """The schema of its value."""
        return _OVEN if (self.device, self.action) == ("oven", "temperature") else _VALUES.get(self.action)


def deeds() -> Iterator[Deed]:
    """Everything that the home does."""
    for name, device in DEVICES.items():
        for action in device.actions:
            yield Deed(name, action, device.rooms, bool(device.plural))
        yield Deed(name, "query", device.rooms, may_wait=False)
    yield Deed("vacuum", "clean", INSIDE)
    for scene in SCENES:
        yield Deed("scene", scene, WHOLE_HOUSE, may_wait=False)


def action_schemas(chosen: Iterable[Deed] | None = None, *, may_wait: bool = True) -> list[Schema]:
    """One schema for each group of deeds that differ only in device and action.

    They refer to `definitions`.
    """
    groups: dict[str, list[Deed]] = defaultdict(list)
    for deed in deeds() if chosen is None else chosen:
        groups[repr((deed.rooms, deed.has_plural, deed.value, deed.may_wait))].append(deed)
    schemas = [one for group in groups.values() for one in _group(group, may_wait=may_wait)]
    timers = [] if chosen is not None else [_timer(), _alarm()]
    return [*schemas, *timers]


def timer_schema() -> Schema:
    """A timer that rings after some minutes."""
    return _timer()


def definitions() -> Schema:
    """What `action_schemas` refer to."""
    return {**_MODIFIERS, **{name: {"enum": list(rooms)} for rooms, name in _ROOMS.items()}}


_LISTS = dict.fromkeys([deed.rooms for deed in deeds() if len(deed.rooms) > 1])
_ROOMS: dict[tuple[str, ...], str] = {rooms: f"r{number}" for number, rooms in enumerate(_LISTS)}


def list_schema(items: Collection[Schema], defined: Schema, *, most: int | None = None) -> Schema:
    """A list of one to `most` items."""
    limit = {} if most is None else {"maxItems": most}
    return {
        "x-guidance": {"whitespace_flexible": False},
        "type": "array",
        "minItems": 1,
        **limit,
        "items": {"anyOf": list(items)},
        "$defs": defined,
    }


def home_schema() -> Schema:
    """A list of actions, which may be empty."""
    return {**list_schema(action_schemas(), definitions()), "minItems": 0}


def _group(group: list[Deed], *, may_wait: bool) -> Iterator[Schema]:
    """Devices with the same actions share a schema."""
    actions: dict[str, list[str]] = defaultdict(list)
    for deed in group:
        actions[deed.device].append(deed.action)
    shared: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for device, names in actions.items():
        shared[tuple(names)].append(device)
    one = group[0]
    modifiers = _WAITING if may_wait and one.may_wait else {}
    rooms = _ref(_ROOMS[one.rooms]) if one.rooms in _ROOMS else {"enum": list(one.rooms)}
    for names, devices in shared.items():
        value = {} if one.value is None else {"value": one.value}
        head = {"device": _any(devices)}
        yield _object({**head, "room": rooms, "action": _any(names), **value}, modifiers)
        if one.has_plural:
            head["room"] = {"const": "all"}
            yield _object({**head, "action": _any(names), **value}, {"excluded": rooms, **modifiers})


def _any(words: Collection[str]) -> Schema:
    return {"enum": list(words)}


def _object(needed: Schema, optional: Schema) -> Schema:
    return {
        "type": "object",
        "properties": {**needed, **optional},
        "required": list(needed),
        "additionalProperties": False,
    }


def _timer() -> Schema:
    fixed = {"device": {"const": "timer"}, "room": {"const": "house"}, "action": {"const": "start"}}
    return _object({**fixed, "minutes": _WAITING["minutes"]}, {})


def _alarm() -> Schema:
    fixed = {"device": {"const": "timer"}, "room": {"const": "house"}, "action": {"const": "wake"}}
    return _object({**fixed, "when": _WAITING["when"]}, {})
