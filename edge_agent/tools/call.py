"""One call of a tool, as an answer makes it. Pure."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias


@dataclass(frozen=True, slots=True)
class Call:
    """`arguments` are plain JSON."""

    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict[str, Any])

    @property
    def arguments_text(self) -> str:
        """The arguments as a JSON text."""
        return json.dumps(self.arguments, ensure_ascii=False, separators=(",", ":"))


Piece: TypeAlias = str | Call  # of an answer: a text for the user, or a call


def call_id(answer_id: str, number: int) -> str:
    """The id of an answer's call `number`, from 0: no other call has it."""
    return f"call_{answer_id}_{number}"
