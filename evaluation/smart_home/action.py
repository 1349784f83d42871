"""What the home is asked to do: a list of `Action`s, written as JSON.

Law: the JSON of a list of actions is unique. Fields are in the order of the dataclass, absent ones are left
out, and there are no spaces; so equal lists have equal texts, and a model has one right answer to learn.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields


@dataclass(frozen=True)
class Action:
    """One action of one device in one room.

    `value` is a percentage, degrees, a speed, cups, a channel, a colour or a kind of music, depending on the
    action. `when` is a clock time "HH:MM" or an event ("dark", "leave"). `after` is the delay before the
    action and `minutes` its duration, both in minutes. `excluded` is the one room that "all" does not
    include.
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
        """Return the fields that are set, in order."""
        pairs = ((field.name, getattr(self, field.name)) for field in fields(self))
        return {name: value for name, value in pairs if value is not None}


def actions_to_json(actions: Sequence[Action]) -> str:
    """Return the unique text of a list of actions."""
    return json.dumps([action.to_dict() for action in actions], separators=(",", ":"))
