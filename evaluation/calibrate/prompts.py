"""The prompts that a pair is calibrated on: a file of the user's, or newly drawn commands for the demo pair.

Law: the demo's default prompts share no command with the published held-out ones, which quality is scored on,
nor with the training data of its models.
"""

import json
from pathlib import Path
from typing import cast

from common.process.settings import SettingsError
from evaluation.smart_home import held_out_commands
from evaluation.smart_home.held_out import held_out

NUM_FRESH = 400
FRESH_SEED = 11  # differs from those of training, the published commands and their scores


def fresh_commands(num: int = NUM_FRESH) -> list[str]:
    """Draw `num` held-out commands that are not among the published ones."""
    published = {each.command for each in held_out()}
    drawn = held_out_commands(num + len(published), FRESH_SEED)
    return [command.text for command in drawn if command.text not in published][:num]


def read_prompts(path: Path, field: str) -> list[str]:
    """Read one prompt per line, or the text in `field` of a `.jsonl` file; SettingsError on bad input."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise SettingsError(f"cannot read the prompts in {path}: {reason}") from error
    numbered = [(number, line) for number, line in enumerate(lines, 1) if line.strip()]
    if path.suffix == ".jsonl":
        prompts = [_from_json(line, field, f"line {number} of {path}") for number, line in numbered]
    else:
        prompts = [line.strip() for _, line in numbered]
    if not prompts:
        raise SettingsError(f"{path} has no prompts: write one per line")
    return prompts


def _from_json(line: str, field: str, place: str) -> str:
    try:
        entry: object = json.loads(line)
    except ValueError as error:
        raise SettingsError(f"{place} is not valid JSON: {error}") from error
    fields = cast("dict[str, object]", entry) if isinstance(entry, dict) else {}
    found = fields.get(field)
    if not isinstance(found, str) or not found.strip():
        names = ", ".join(fields) or "none"
        raise SettingsError(f"{place} has no text in field '{field}' (its fields: {names}): see --field")
    return found
