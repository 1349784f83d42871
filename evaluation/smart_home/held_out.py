"""The published held-out commands: prompts with the right actions."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evaluation.smart_home.scoring import read_actions

HELD_OUT = Path(__file__).parent / "held_out.jsonl"


@dataclass(frozen=True, slots=True)
class HeldOut:
    """One line of the file."""

    command: str
    actions: tuple[dict[str, Any], ...]

    def is_right(self, text: str) -> bool:
        """Whether the first line of a reply is exactly the expected list of actions."""
        return read_actions(text) == list(self.actions)


def held_out(count: int | None = None, *, first: int = 0, path: Path = HELD_OUT) -> list[HeldOut]:
    """Return `count` commands (None: all) from number `first` on, in the order of the file."""
    lines = path.read_text(encoding="utf-8").splitlines()[first:]
    parsed = [json.loads(line) for line in lines[:count]]
    return [HeldOut(each["command"], tuple(each["actions"])) for each in parsed]
