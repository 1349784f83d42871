"""The entities that Home Assistant lists in its system prompt. Pure.

    - names: Kitchen light
      domain: light
      areas: Kitchen

Law: a list that is not there, or in another form, is an empty one: calls then name areas and kinds alone.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from edge_agent.tools.call_format import Message
from edge_agent.tools.home import DEVICES, ROOM_NAMES

MAX_CHARACTERS = 200_000
_ENTRY = re.compile(r"^- names: (.*)$")
_FIELD = re.compile(r"^  (domain|areas): (.*)$")


@dataclass(frozen=True, slots=True)
class Entity:
    """One entity; `name` is its first name."""

    name: str
    domain: str = ""
    area: str = ""

    def is_in(self, room: str) -> bool:
        """Whether its area has a name of the room."""
        return self.area.casefold() in ROOM_NAMES.get(room, (room,))

    def is_called(self, device: str) -> bool:
        """Whether a name of the device is part of its own."""
        words = f" {self.name.casefold()} "
        return any(f" {name} " in words for name in DEVICES[device].names)


def exposed(messages: Sequence[Message]) -> tuple[Entity, ...]:
    """The entities in the system message."""
    texts = (str(one.get("content")) for one in messages if one.get("role") == "system")
    return tuple(one for text in texts for one in _entities(text[:MAX_CHARACTERS]))


def _entities(text: str) -> Iterator[Entity]:
    found: dict[str, str] = {}
    for line in [*text.splitlines(), ""]:
        if field := _FIELD.match(line):
            found[field[1]] = _bare(field[2])
        elif not line.startswith("  ") and found.get("name"):
            yield Entity(found["name"], found.get("domain", ""), found.get("areas", ""))
            found = {}
        if entry := _ENTRY.match(line):
            found = {"name": _bare(entry[1])}


def _bare(text: str) -> str:
    """The first of several names, without quotes."""
    return text.strip().strip("'\"").split(", ")[0].strip()
