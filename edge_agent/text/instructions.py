"""What a chat prompt begins with beyond its messages: a system prompt, and variables of the template.

Law: nothing that a user wrote is silently dropped. A system prompt that the chat template leaves out, or that
has no template to go into, is an error.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from edge_agent.errors import ConfigError

MAX_CHARACTERS = 1 << 20  # of a system prompt


@dataclass(frozen=True, slots=True)
class Instructions:
    """`system` begins every conversation that has no system message of its own."""

    system: str | None = None
    template_vars: Mapping[str, object] = field(default_factory=dict[str, object])

    def __bool__(self) -> bool:
        return self.system is not None or bool(self.template_vars)


def read_system(path: str) -> str:
    """The system prompt in a UTF-8 text file, without its last line ends; raises ConfigError."""
    try:
        with Path(path).expanduser().open(encoding="utf-8-sig") as file:
            text = file.read(MAX_CHARACTERS + 1)
    except OSError as error:
        raise ConfigError(f"cannot read `system_file` {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"`system_file` {path} is not UTF-8 text: convert it") from error
    if len(text) > MAX_CHARACTERS:
        raise ConfigError(f"`system_file` {path} is longer than {MAX_CHARACTERS:,} characters: shorten it")
    text = text.rstrip("\n")
    if not text.strip():
        raise ConfigError(f"`system_file` {path} is empty: write the system prompt into it, or leave it out")
    return text
