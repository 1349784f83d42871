"""What a client asks for, whichever API it speaks: a prompt, options, and how to answer."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from edge_agent.options import Options
from edge_agent.text.prompts import Message


@dataclass(frozen=True, slots=True)
class Asked:
    """One ask; `model` is the name to answer with."""

    prompt: str | Sequence[Message]
    model: str
    options: Options = field(default_factory=lambda: Options())
    streams: bool = False
    includes_usage: bool = False
    shows_tentative: bool = False
    format_field: str | None = None  # the field that has the grammar, for errors about it
