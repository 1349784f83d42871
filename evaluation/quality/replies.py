"""What became of each reply, and the file that keeps it: quality-replies.csv.

Law: the page follows from the two files alone (`evaluation quality --replies`), so anyone can derive other
figures and intervals without the models.
"""

import csv
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import get_type_hints

from common.process.settings import SettingsError
from evaluation.quality.reply import Replies, Reply
from evaluation.quality.setting import Setting
from evaluation.reporting.results import Cell, write_csv

REPLIES, SETTINGS = "quality-replies.csv", "quality-settings.csv"

_COLUMNS = tuple(field.name for field in fields(Reply))
_TYPES = get_type_hints(Setting)


def write_replies(folder: Path, header: str, replies: Replies) -> None:
    """Write both files; the settings are numbered, and `header` is kept with them."""
    settings = list(replies)
    names = tuple(asdict(settings[0]))
    rows: list[Sequence[Cell]] = [
        (number, *asdict(setting).values()) for number, setting in enumerate(settings)
    ]
    write_csv(folder / SETTINGS, ("setting", *names, "header"), [(*rows[0], header), *rows[1:]])
    outcomes: list[Sequence[Cell]] = [
        (number, *(getattr(reply, name) for name in _COLUMNS))
        for number, setting in enumerate(settings)
        for reply in replies[setting]
    ]
    write_csv(folder / REPLIES, ("setting", *_COLUMNS), outcomes)


def read_replies(folder: Path) -> tuple[str, Replies]:
    """Read what `write_replies` wrote; SettingsError on anything else."""
    try:
        with (folder / SETTINGS).open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        settings = [Setting(**{name: kind(row[name]) for name, kind in _TYPES.items()}) for row in rows]
        found: dict[Setting, list[Reply]] = defaultdict(list)
        with (folder / REPLIES).open(encoding="utf-8", newline="") as file:
            lines = csv.reader(file)
            if tuple(next(lines, ())) != ("setting", *_COLUMNS):
                raise ValueError("its columns are not those of replies")
            for line in lines:
                number, *outcome = map(int, line)
                found[settings[number]].append(Reply(*outcome))
        return rows[0]["header"], {setting: found[setting] for setting in settings}
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise SettingsError(
            f"cannot read {REPLIES} and {SETTINGS} in {folder}: {error}; `evaluation quality` writes them"
        ) from error
