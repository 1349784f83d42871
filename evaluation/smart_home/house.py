"""The home of the task, which is the one that the demo pair looks after, and how its rooms are spoken of."""

from edge_agent.tools.home import DEVICES as DEVICES
from edge_agent.tools.home import INSIDE as INSIDE
from edge_agent.tools.home import ROOM_NAMES as ROOM_NAMES


def place_of(room: str, name: str) -> str:
    """Return the room as a place: "in the kitchen", "on the balcony"."""
    return f"{'on' if room == 'balcony' else 'in'} the {name}"
