"""The flags of `generate` that say what the answer must match.

Law: a file that cannot be used is a one-line error before the model is loaded.
"""

import argparse
import json
from pathlib import Path
from typing import cast

from common.process.paths import path_flag
from common.process.settings import SettingsError
from common.protocol.grammar import Grammar
from edge_agent.cli.input import MAX_CHARACTERS
from edge_agent.formats import grammar_of
from edge_agent.json_fields import JsonFields


def add_formats(parser: argparse.ArgumentParser) -> None:
    """Add the flags; only one of them may be given."""
    group = parser.add_argument_group("form of the answer").add_mutually_exclusive_group()
    group.add_argument(
        "--json-schema", type=path_flag, metavar="FILE", help="JSON that fits the JSON schema in this file"
    )
    group.add_argument(
        "--regex", metavar="TEXT", help="a text that this regular expression matches as a whole"
    )
    group.add_argument(
        "--lark", type=path_flag, metavar="FILE", help="a text of the Lark grammar in this file"
    )


def grammar_given(flags: argparse.Namespace) -> Grammar | None:
    """The grammar that the flags name; raises SettingsError when it cannot be read."""
    if flags.json_schema is not None:
        return _checked("json_schema", _parsed(flags.json_schema), f"--json-schema {flags.json_schema}")
    if flags.lark is not None:
        return _checked("lark", _read(flags.lark, "--lark"), f"--lark {flags.lark}")
    return None if flags.regex is None else _checked("regex", flags.regex, "--regex")


class _Given(JsonFields):
    def __init__(self, name: str, value: object, shown: str) -> None:
        super().__init__({name: value})
        self._shown = shown

    def refusal(self, message: str, name: str) -> SettingsError:
        return SettingsError(message.replace(self.quoted(name), self._shown))


def _checked(name: str, value: object, shown: str) -> Grammar:
    fields = _Given(name, value, shown)
    grammar = grammar_of(fields, (name,))
    if grammar is None:
        raise fields.wrong(name, "not empty")
    return grammar


def _parsed(path: Path) -> object:
    try:
        return cast("object", json.loads(_read(path, "--json-schema")))
    except (ValueError, RecursionError) as error:
        raise SettingsError(f"--json-schema {path} is not valid JSON: {error}") from error


def _read(path: Path, flag: str) -> str:
    try:
        with path.open(encoding="utf-8-sig") as file:
            text = file.read(MAX_CHARACTERS + 1)
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{flag} {path} cannot be read ({error}): give a text file") from error
    if len(text) > MAX_CHARACTERS:
        raise SettingsError(f"{flag} {path} is longer than {MAX_CHARACTERS:,} characters: shorten it")
    return text
