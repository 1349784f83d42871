"""What the home answers: one sentence for a list of actions.

Law: the sentence is a function of the actions alone, so a model with the right actions has one right
sentence.
"""

from collections.abc import Sequence

from evaluation.smart_home.action import Action
from evaluation.smart_home.house import DEVICES, ROOM_NAMES, place_of

REFUSAL = "Sorry, I can only look after this house."

# what is said of a device when the action happens now, and when it happens later
STATEMENTS: dict[str, tuple[str, str]] = {
    "on": ("{is} on", "will be on"),
    "off": ("{is} off", "will be off"),
    "brightness": ("{is} at {value} percent", "will go to {value} percent"),
    "temperature": ("{is} set to {value} degrees", "will be set to {value} degrees"),
    "volume": ("{is} at volume {value}", "will go to volume {value}"),
    "position": ("{is} {value} percent open", "will be {value} percent open"),
    "speed": ("{is} running at speed {value}", "will run at speed {value}"),
    "channel": ("{is} on channel {value}", "will switch to channel {value}"),
    "colour": ("{is} {value} now", "will turn {value}"),
    "play": ("{is} playing {value}", "will play {value}"),
    "brighter": ("{is} {value} percent brighter", "will be {value} percent brighter"),
    "dimmer": ("{is} {value} percent dimmer", "will be {value} percent dimmer"),
    "warmer": ("{is} up by {value}", "will go up by {value}"),
    "cooler": ("{is} down by {value}", "will go down by {value}"),
    "louder": ("{is} {value} percent louder", "will be {value} percent louder"),
    "quieter": ("{is} {value} percent quieter", "will be {value} percent quieter"),
    "open": ("{is} open", "will open"),
    "close": ("{is} closed", "will close"),
    "lock": ("{is} locked", "will be locked"),
    "unlock": ("{is} unlocked", "will be unlocked"),
    "arm": ("{is} armed", "will be armed"),
    "disarm": ("{is} disarmed", "will be disarmed"),
    "start": ("{is} running", "will start"),
    "stop": ("{is} stopped", "will stop"),
    "dock": ("{is} on its way home", "will go home"),
}

SCENE_SENTENCES: dict[str, str] = {
    "good_night": "I wish you a good night",
    "good_morning": "I wish you a good morning",
    "movie_time": "I have made it cosy for the movie",
    "leaving": "I will look after the house",
    "dinner": "I have set the light for dinner",
    "party": "I have made it ready for the party",
    "holiday": "I will make the house look lived in",
    "reading": "I have set the light for reading",
}

EVENT_WORDS: dict[str, str] = {
    "leave": "when you leave",
    "arrive": "when you come home",
    "dark": "when it gets dark",
    "sunrise": "at sunrise",
    "rain": "if it rains",
    "empty": "when nobody is home",
    "doorbell": "when the doorbell rings",
    "bedtime": "when you go to bed",
    "wake_up": "when you wake up",
    "hot": "if it gets hot",
}

OPENINGS: dict[str, str] = {
    "off": "Done",
    "close": "Done",
    "stop": "Done",
    "lock": "Safe now",
    "arm": "Safe now",
    "query": "One moment",
    "brew": "With pleasure",
    "play": "With pleasure",
    "warmer": "All right",
    "cooler": "All right",
    "brighter": "All right",
    "dimmer": "All right",
    "louder": "All right",
    "quieter": "All right",
}


def answer_sentence(actions: Sequence[Action]) -> str:
    """Return the sentence that goes with the actions."""
    if not actions:
        return REFUSAL
    clauses = [_clause(action) for action in actions]
    joined = clauses[0] if len(clauses) == 1 else f"{', '.join(clauses[:-1])} and {clauses[-1]}"
    return f"{OPENINGS.get(actions[0].action, 'Okay')}, {joined}."


def _clause(action: Action) -> str:
    return f"{_statement(action)}{_conditions(action)}"


def _statement(action: Action) -> str:
    value = str(action.value)
    match action.device, action.action:
        case "scene", scene:
            return SCENE_SENTENCES[scene]
        case "timer", "start":
            return "the timer is set"
        case "timer", _:
            return "I will wake you"
        case _, "query":
            return f"I am checking {_thing(action)}"
        case _, "clean":
            return f"the robot cleans the {ROOM_NAMES[action.room][0]}"
        case _, "brew":
            return f"I make {value} {'cup' if value == '1' else 'cups'} of coffee"
        case _:
            now, later = STATEMENTS[action.action]
            said = now if action.when is None and action.after is None else later
            return f"{_thing(action)} {said.format(**{'is': _is(action), 'value': value})}"


def _is(action: Action) -> str:
    return "are" if action.room == "all" or action.device == "blinds" else "is"


def _thing(action: Action) -> str:
    device = DEVICES[action.device]
    if action.room == "house":
        return f"the {device.names[0]}"
    if action.room != "all":
        return f"the {ROOM_NAMES[action.room][0]} {device.names[0]}"
    if action.excluded is None:
        return f"all {device.plural}"
    return f"all {device.plural} except {place_of(action.excluded, ROOM_NAMES[action.excluded][0])}"


def _conditions(action: Action) -> str:
    said = ""
    if action.after is not None:
        said += f" in {action.after} minutes"
    if action.when is not None:
        said += f" {EVENT_WORDS[action.when]}" if action.when in EVENT_WORDS else f" at {action.when}"
    if action.minutes is not None:
        said += f" for {action.minutes} minutes"
    return said
