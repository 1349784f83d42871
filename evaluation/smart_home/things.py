"""The devices that a command means, and how it names them: "the study lamp", "all lights except in the loft".

Law: the name determines the targets. A name never mentions a room that it does not include or exclude.
"""

from dataclasses import dataclass
from random import Random

from evaluation.smart_home.house import DEVICES, ROOM_NAMES, place_of

FOR_ALL = frozenset(
    {"on", "off", "open", "close", "brightness", "colour", "temperature", "lock", "unlock", "position"}
)
FOR_ONE_KIND = frozenset({"temperature", "brightness", "brighter", "dimmer", "warmer", "cooler"})


@dataclass(frozen=True)
class Target:
    """One device in one room, or in all rooms except `excluded`."""

    device: str
    room: str
    excluded: str | None = None


@dataclass(frozen=True)
class Thing:
    """A noun phrase and the targets that it names."""

    text: str
    targets: tuple[Target, ...]


def draw_place(rng: Random, room: str) -> str:
    """Return the room as a place, by one of its names."""
    return place_of(room, rng.choice(ROOM_NAMES[room]))


def draw_thing(rng: Random, device: str, action: str) -> Thing:
    """Draw one target or, less often, two or all of a kind."""
    style = rng.random()
    if len(DEVICES[device].rooms) == 1:
        return Thing(f"the {rng.choice(DEVICES[device].names)}", (Target(device, "house"),))
    if style < 0.08 and action in FOR_ALL:
        return _all_of(rng, device)
    if style < 0.14:
        return _two_rooms(rng, device)
    if style < 0.18 and action not in FOR_ONE_KIND:
        return _two_devices(rng, device, action)
    return _one(rng, device, rng.choice(DEVICES[device].rooms))


def _one(rng: Random, device: str, room: str) -> Thing:
    name, targets = rng.choice(DEVICES[device].names), (Target(device, room),)
    if rng.random() < 0.5:
        return Thing(f"the {rng.choice(ROOM_NAMES[room])} {name}", targets)
    return Thing(f"the {name} {draw_place(rng, room)}", targets)


def _two_rooms(rng: Random, device: str) -> Thing:
    first, second = rng.sample(DEVICES[device].rooms, 2)
    name, targets = rng.choice(DEVICES[device].names), (Target(device, first), Target(device, second))
    if rng.random() < 0.5:
        return Thing(f"the {name} {draw_place(rng, first)} and {draw_place(rng, second)}", targets)
    return Thing(f"the {rng.choice(ROOM_NAMES[first])} and {rng.choice(ROOM_NAMES[second])} {name}", targets)


def _two_devices(rng: Random, device: str, action: str) -> Thing:
    others = [name for name, kind in DEVICES.items() if action in kind.actions and name != device]
    if not others:
        return _two_rooms(rng, device)
    other = rng.choice(others)
    first, second = _one(rng, device, rng.choice(DEVICES[device].rooms)), draw_single(rng, other)
    return Thing(f"{first.text} and {second.text}", first.targets + second.targets)


def draw_single(rng: Random, device: str) -> Thing:
    """Draw exactly one target."""
    if len(DEVICES[device].rooms) == 1:
        return Thing(f"the {rng.choice(DEVICES[device].names)}", (Target(device, "house"),))
    return _one(rng, device, rng.choice(DEVICES[device].rooms))


def _all_of(rng: Random, device: str) -> Thing:
    plural = DEVICES[device].plural
    text = rng.choice(
        (f"all {plural}", f"all the {plural}", f"all {plural} in the house", f"the {plural} in all rooms")
    )
    if rng.random() < 0.5:
        return Thing(text, (Target(device, "all"),))
    room = rng.choice(DEVICES[device].rooms)
    place, name = draw_place(rng, room), rng.choice(ROOM_NAMES[room])
    but = rng.choice(
        (f"except {place}", f"except the {name}", f"but not {place}", f"except the ones {place}")
    )
    return Thing(f"{text} {but}", (Target(device, "all", room),))
