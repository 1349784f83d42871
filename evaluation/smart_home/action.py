"""What the house is asked to do: one `Action` a wish, written as JSON.

Law: the JSON of a list of actions is unique. Fields stand in the order of the dataclass, absent ones are
left out, there are no spaces; so equal lists have equal texts and a model has one right answer to learn.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields


@dataclass(frozen=True)
class Action:
    """One device in one room does one thing.

    `value` is a percentage, degrees, a speed, cups, a channel, a colour or a kind of music: the action says
    which. `when` is a clock time "HH:MM" or an event ("dark", "leave"); `after` and `minutes` are minutes:
    the delay before the action, and how long it lasts. `excluded` is the one room that "all" does not mean.
    """

    device: str
    room: str
    action: str
    value: int | str | None = None
    excluded: str | None = None
    when: str | None = None
    after: int | None = None
    minutes: int | None = None

    def to_dict(self) -> dict[str, int | str]:
        """The fields that are set, in order."""
        pairs = ((field.name, getattr(self, field.name)) for field in fields(self))
        return {name: value for name, value in pairs if value is not None}


def actions_to_json(actions: Sequence[Action]) -> str:
    """The one text of a list of actions."""
    return json.dumps([action.to_dict() for action in actions], separators=(",", ":"))
