"""Scores a generated text: it is right if its first line is exactly the expected list of actions.

Law: a first line that is not valid JSON, or not the expected list, is wrong; nothing is repaired.
"""

import json
from collections.abc import Sequence
from typing import cast

from evaluation.smart_home.action import Action


def read_actions(generated_text: str) -> list[dict[str, int | str]] | None:
    """Return the list of actions on the first line, or None if there is none."""
    try:
        found = json.loads(generated_text.split("\n", 1)[0])
    except ValueError:
        return None
    if not isinstance(found, list) or not all(isinstance(item, dict) for item in cast("list[object]", found)):
        return None
    return cast("list[dict[str, int | str]]", found)


def exact_match(generated_text: str, actions: Sequence[Action]) -> bool:
    """Whether the generated list has the expected actions: same order, same fields and values."""
    return read_actions(generated_text) == [action.to_dict() for action in actions]
