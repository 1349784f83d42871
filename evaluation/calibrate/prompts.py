"""The prompts of the user's file that a pair is calibrated on.

Law: bad input is a one-line error that names the file and the line.
"""

import json
from pathlib import Path
from typing import cast

from common.process.settings import SettingsError


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
