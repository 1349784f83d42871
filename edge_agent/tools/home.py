"""The home that the demo pair looks after: its rooms, the devices in them, and what people call them. Pure.

Law: no name belongs to two rooms or two devices, so a command never has two meanings.
"""

from dataclasses import dataclass

ROOM_NAMES: dict[str, tuple[str, ...]] = {
    "kitchen": ("kitchen",),
    "living_room": ("living room", "lounge"),
    "bedroom": ("bedroom", "master bedroom"),
    "bathroom": ("bathroom", "bath"),
    "hallway": ("hallway", "hall", "corridor"),
    "office": ("office", "study"),
    "nursery": ("nursery", "kids' room", "children's room"),
    "dining_room": ("dining room",),
    "guest_room": ("guest room", "spare room"),
    "basement": ("basement", "cellar"),
    "attic": ("attic", "loft"),
    "garage": ("garage",),
    "garden": ("garden", "yard"),
    "balcony": ("balcony", "terrace"),
}
OUTSIDE = ("garden", "balcony")
INSIDE = tuple(room for room in ROOM_NAMES if room not in OUTSIDE)
LIVED_IN = tuple(room for room in INSIDE if room not in ("attic", "garage", "basement"))
DOORS = ("garage", "garden", "balcony", "basement", "office", "bedroom", "attic", "kitchen")
WHOLE_HOUSE = ("house",)

SWITCH = ("on", "off")
LIGHTING = (*SWITCH, "brightness", "colour", "brighter", "dimmer")
SOUND = ("volume", "louder", "quieter")


@dataclass(frozen=True)
class Device:
    """A kind of device. `plural` names all of them together; it is empty if there is only one."""

    names: tuple[str, ...]
    plural: str
    rooms: tuple[str, ...]
    actions: tuple[str, ...]


DEVICES: dict[str, Device] = {
    "light": Device(("light", "lights", "ceiling light"), "lights", tuple(ROOM_NAMES), LIGHTING),
    "lamp": Device(("lamp", "table lamp", "reading lamp", "floor lamp"), "lamps", LIVED_IN, LIGHTING),
    "heating": Device(
        ("heating", "heater", "radiator", "thermostat"),
        "radiators",
        INSIDE,
        (*SWITCH, "temperature", "warmer", "cooler"),
    ),
    "blinds": Device(("blinds", "shutters", "curtains"), "blinds", LIVED_IN, ("open", "close", "position")),
    "window": Device(("window", "windows"), "windows", INSIDE, ("open", "close")),
    "fan": Device(("fan", "ventilator"), "fans", LIVED_IN, (*SWITCH, "speed")),
    "tv": Device(("tv", "television", "telly"), "tvs", LIVED_IN, (*SWITCH, *SOUND, "channel")),
    "speaker": Device(("speaker", "music", "radio"), "speakers", LIVED_IN, (*SWITCH, *SOUND, "play")),
    "plug": Device(("plug", "socket", "power outlet"), "plugs", tuple(ROOM_NAMES), SWITCH),
    "lock": Device(("door",), "doors", DOORS, ("lock", "unlock")),
    "front_door": Device(("front door", "main door"), "", WHOLE_HOUSE, ("lock", "unlock")),
    "oven": Device(("oven",), "", WHOLE_HOUSE, (*SWITCH, "temperature")),
    "coffee_machine": Device(("coffee machine", "coffee maker"), "", WHOLE_HOUSE, (*SWITCH, "brew")),
    "vacuum": Device(("vacuum cleaner", "robot", "vacuum"), "", WHOLE_HOUSE, ("dock",)),
    "alarm": Device(("alarm", "alarm system", "burglar alarm"), "", WHOLE_HOUSE, ("arm", "disarm")),
    "washing_machine": Device(("washing machine", "washer"), "", WHOLE_HOUSE, ("start", "stop")),
    "dishwasher": Device(("dishwasher",), "", WHOLE_HOUSE, ("start", "stop")),
    "sprinkler": Device(("sprinkler", "lawn sprinkler"), "", WHOLE_HOUSE, SWITCH),
}

# what the home knows beside devices in rooms
COLOURS = ("red", "green", "blue", "yellow", "orange", "purple", "pink", "white", "turquoise", "warm white")
MUSIC = (
    "jazz",
    "rock",
    "pop",
    "classical music",
    "the news",
    "hip hop",
    "country",
    "lullabies",
    "techno",
    "an audiobook",
)
SCENES = (
    *("good_night", "good_morning", "movie_time", "leaving"),
    *("dinner", "party", "holiday", "reading"),
)
EVENTS = (
    *("leave", "arrive", "dark", "sunrise", "rain"),
    *("empty", "doorbell", "bedtime", "wake_up", "hot"),
)
