"""One wish: a part of a command that makes sense on its own, and the actions that it means.

Law: the text of a wish determines its actions. `wording` is the wording that was used, so that a split can
hold it out.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random

from evaluation.smart_home import spoken
from evaluation.smart_home.action import Action
from evaluation.smart_home.house import DEVICES, INSIDE, ROOM_NAMES
from evaluation.smart_home.remarks import QUESTIONS, REMARKS, SCENES, SMALL_TALK
from evaluation.smart_home.requests import REQUESTS
from evaluation.smart_home.things import Thing, draw_place, draw_single, draw_thing
from evaluation.smart_home.wordings import split_wordings

Value = tuple[int | str | None, str]

STATES: dict[str, tuple[str, ...]] = {
    "blinds": ("open", "closed", "up", "down"),
    "window": ("open", "closed"),
    "lock": ("locked", "unlocked", "open"),
    "front_door": ("locked", "unlocked", "open"),
    "alarm": ("on", "armed", "active"),
    "vacuum": ("running", "working"),
    "washing_machine": ("on", "running", "done"),
    "dishwasher": ("on", "running", "done"),
}
PLURAL_NAMES = frozenset({"lights", "windows", "blinds", "shutters", "curtains"})


@dataclass(frozen=True)
class Wish:
    """A wish; `request` marks an imperative, to which polite words can be added."""

    text: str
    actions: tuple[Action, ...]
    wording: str
    held_out_wording: bool
    request: bool = False


def draw_wish(rng: Random, held_out_rate: float) -> Wish:
    """Draw a wish of any kind; its wording is held out with probability `held_out_rate`."""
    kinds: tuple[Callable[[Random, float], Wish], ...] = (_request, _errand, _question, _remark, _scene)
    kind = rng.choices(kinds, (66, 9, 11, 10, 4))[0]
    return kind(rng, held_out_rate)


def draw_small_talk(rng: Random, held_out_rate: float) -> Wish:
    """Draw something that a smart home cannot do; it has no actions."""
    wording, held_out = _draw_wording(rng, SMALL_TALK, held_out_rate)
    numbered = wording.replace("{n}", str(rng.randint(1, 99)), 1).replace("{n}", str(rng.randint(1, 99)), 1)
    return Wish(numbered, (), wording, held_out)


def _draw_wording(rng: Random, patterns: tuple[str, ...], held_out_rate: float) -> tuple[str, bool]:
    training, held_out = split_wordings(patterns)
    is_held_out = bool(held_out) and rng.random() < held_out_rate
    return rng.choice(held_out if is_held_out else training), is_held_out


def _request(rng: Random, held_out_rate: float) -> Wish:
    device = _draw_device(rng)
    action = rng.choice(DEVICES[device].actions)
    thing = draw_thing(rng, device, action)
    wording, held_out = _draw_wording(rng, REQUESTS[action], held_out_rate)
    value, said = _draw_value(rng, device, action, wording)
    text = wording.replace("{x}", thing.text).replace("{n}", said).replace("{a}", said)
    wish = Wish(text, _actions(thing, action, value), wording, held_out, _is_imperative(wording))
    return _modified(rng, wish)


def _draw_device(rng: Random) -> str:
    return rng.choices(tuple(DEVICES), [1 + len(device.actions) for device in DEVICES.values()])[0]


def _actions(thing: Thing, action: str, value: int | str | None) -> tuple[Action, ...]:
    return tuple(Action(to.device, to.room, action, value, to.excluded) for to in thing.targets)


def _is_imperative(wording: str) -> bool:
    return not wording.startswith(("i ", "{x}", "the "))


def _draw_value(rng: Random, device: str, action: str, wording: str) -> Value:
    match action:
        case "brightness" | "position" | "volume":
            number = rng.choice((rng.randrange(5, 101, 5), rng.randint(1, 100)))
            return number, spoken.spoken_percent(rng, number)
        case "temperature":
            number = rng.randrange(50, 251, 10) if device == "oven" else rng.randint(15, 28)
            return number, spoken.spoken_degrees(rng, number)
        case "speed" | "channel":
            number = rng.randint(1, 5 if action == "speed" else 99)
            return number, spoken.spoken_number(rng, number)
        case "colour" | "play":
            name = rng.choice(spoken.COLOURS if action == "colour" else spoken.MUSIC)
            return name, name
        case "brew":
            number = rng.randint(1, 6)
            return number, rng.choice(
                ("a cup", "one cup", "1 cup")
                if number == 1
                else (f"{number} cups", f"{spoken.SMALL[number]} cups")
            )
        case "brighter" | "dimmer" | "louder" | "quieter" | "warmer" | "cooler":
            return _draw_amount(rng, degrees=action in ("warmer", "cooler"), last=wording.endswith("{a}"))
        case _:
            return None, ""


def _draw_amount(rng: Random, degrees: bool, last: bool) -> Value:
    """Draw how much more or less: "a bit", "by 2 degrees"; `last`: the amount ends the wording."""
    if rng.random() < 0.4:
        number = rng.randint(1, 6) if degrees else rng.randrange(5, 55, 5)
        unit = "degree" if number == 1 else "degrees"
        said = (
            f"{spoken.spoken_number(rng, number)} {unit}" if degrees else spoken.spoken_percent(rng, number)
        )
        return number, f"by {said}" if last else said
    size = rng.randrange(3)
    said = rng.choice((("a bit", "a little", "slightly"), ("",), ("a lot",))[size])
    return ((1, 2, 4) if degrees else (10, 20, 40))[size], said


def _errand(rng: Random, held_out_rate: float) -> Wish:
    action = rng.choice(("clean", "timer", "wake"))
    wording, held_out = _draw_wording(rng, REQUESTS[action], held_out_rate)
    if action == "clean":
        room = rng.choice(INSIDE)
        text = _fill_place(rng, wording, room)
        return _modified(
            rng, Wish(text, (Action("vacuum", room, action),), wording, held_out, _is_imperative(wording))
        )
    if action == "timer":
        minutes, said = spoken.spoken_duration(rng)
        timer = Action("timer", "house", "start", minutes=minutes)
        if "a {n} timer" in wording:
            said = f"{minutes} minute"
    else:
        when, said = spoken.spoken_clock(rng)
        timer = Action("timer", "house", "wake", when=when)
    return Wish(wording.replace("{n}", said), (timer,), wording, held_out, _is_imperative(wording))


def _fill_place(rng: Random, wording: str, room: str) -> str:
    return wording.replace("{in}", draw_place(rng, room)).replace("{room}", rng.choice(ROOM_NAMES[room]))


def _question(rng: Random, held_out_rate: float) -> Wish:
    if rng.random() < 0.12:
        wording, held_out = _draw_wording(rng, QUESTIONS["ask_temperature"], held_out_rate)
        room = rng.choice(DEVICES["heating"].rooms)
        return Wish(_fill_place(rng, wording, room), (Action("heating", room, "query"),), wording, held_out)
    device = _draw_device(rng)
    thing = draw_single(rng, device)
    wording, held_out = _draw_wording(rng, QUESTIONS["query"], held_out_rate)
    text = wording.replace("{be}", "are" if PLURAL_NAMES & set(thing.text.split()) else "is").replace(
        "{x}", thing.text
    )
    state = rng.choice(STATES.get(device, ("on", "off")))
    return Wish(text.replace("{s}", state), _actions(thing, "query", None), wording, held_out)


def _remark(rng: Random, held_out_rate: float) -> Wish:
    device, action, value = rng.choice(tuple(REMARKS))
    rooms = DEVICES[device].rooms if device != "vacuum" else INSIDE
    room = rng.choice(rooms)
    wording, held_out = _draw_wording(rng, REMARKS[device, action, value], held_out_rate)
    return Wish(_fill_place(rng, wording, room), (Action(device, room, action, value),), wording, held_out)


def _scene(rng: Random, held_out_rate: float) -> Wish:
    scene = rng.choice(tuple(SCENES))
    wording, held_out = _draw_wording(rng, SCENES[scene], held_out_rate)
    return Wish(wording, (Action("scene", "house", scene),), wording, held_out)


def _modified(rng: Random, wish: Wish) -> Wish:
    """Sometimes add a time, an event or a duration, before or after the wish."""
    style = rng.random()
    if style < 0.72:
        return wish
    if style < 0.78:
        minutes, said = spoken.spoken_duration(rng)
        return _with(wish, f"{wish.text} for {said}", minutes=minutes)
    if style < 0.84:
        minutes, said = spoken.spoken_duration(rng)
        return _placed(rng, wish, f"in {said}", after=minutes)
    if style < 0.92:
        when, said = spoken.spoken_clock(rng)
        return _placed(rng, wish, f"at {said}", when=when)
    when, said = spoken.spoken_event(rng)
    return _placed(rng, wish, said, when=when)


def _placed(rng: Random, wish: Wish, said: str, when: str | None = None, after: int | None = None) -> Wish:
    text = f"{said} {wish.text}" if rng.random() < 0.3 else f"{wish.text} {said}"
    return replace(
        _with(wish, text, when=when, after=after), request=wish.request and not text.startswith(said)
    )


def _with(
    wish: Wish, text: str, when: str | None = None, after: int | None = None, minutes: int | None = None
) -> Wish:
    actions = tuple(replace(action, when=when, after=after, minutes=minutes) for action in wish.actions)
    return replace(wish, text=text, actions=actions)
