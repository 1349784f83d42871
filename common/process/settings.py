"""One frozen dataclass per process: every field is a flag, an environment variable and a TOML key.

Law: nothing that a user wrote is silently dropped. An unknown key, variable, flag or value is an error that
names it and suggests the right one. Flags win over the environment, the environment over the file, and the
file over the default. A secret has no flag, because everyone on the machine can see command lines.

Library code names settings in backquotes (`broker`); a command line shows them as flags (`with_flags`).
"""

import argparse
import dataclasses
import difflib
import os
import re
import tomllib
import types
from collections.abc import Collection, Iterable, Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Any, NoReturn, TypeVar, cast, get_args, get_origin, get_type_hints

from common.process.service_variables import is_service_variable

Settings = TypeVar("Settings")

_QUOTED_NAME = re.compile(r"`([a-z][a-z0-9_]*)`")


class SettingsError(Exception):
    """A setting that cannot be used; the message is one line: what is wrong, and what would be right."""


class CommandLine(argparse.ArgumentParser):
    """argparse with one-line errors and without abbreviated flags."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, allow_abbrev=False, **settings)

    def parse_known_args(  # type: ignore[override]  # its namespace is generic, ours never is
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """As argparse's, but an unknown argument is an error here, where the similar flags are known."""
        found, unknown = super().parse_known_args(args, namespace)
        if unknown:
            what = "flag" if unknown[0].startswith("-") else "argument"
            self.error(f"unknown {what} {unknown[0]}; {_hint(unknown[0], self._option_string_actions)}")
        return found, unknown

    def error(self, message: str) -> NoReturn:
        """Exit with the message alone: the usage is a page long."""
        self.exit(2, f"{self.prog}: {message}\n")


@dataclasses.dataclass(frozen=True, slots=True)
class _Option:
    """A field of a settings dataclass, as the three sources see it."""

    name: str
    kind: Any
    help: str
    group: str
    choices: tuple[str, ...]
    secret: bool
    default: object

    @property
    def flag(self) -> str:
        return "--" + self.name.replace("_", "-")


def option(default: Any, help: str, *, group: str, choices: Iterable[str] = (), secret: bool = False) -> Any:
    """A field of a settings dataclass: its help text, and the group it appears under in `--help`."""
    metadata = {"help": help, "group": group, "choices": tuple(choices), "secret": secret}
    return dataclasses.field(default=default, metadata=metadata)


def add_flags(parser: argparse.ArgumentParser, kind: type, prefix: str) -> None:
    """Add `--config` and a flag for each field, in groups; flags not given are absent from the namespace."""
    parser.add_argument("--config", metavar="FILE", help=f"TOML file of settings (or {prefix}CONFIG)")
    options = [item for item in _options(kind) if not item.secret]
    titles = dict.fromkeys(item.group for item in options)
    groups = {title: parser.add_argument_group(title) for title in titles}
    for item in options:
        shown = "" if item.default in (None, (), "") else f" (default: {_shown(item.default)})"
        arguments: dict[str, Any] = {"help": (item.help + shown).replace("%", "%%"), "dest": item.name}
        if item.kind is bool:
            arguments["action"] = argparse.BooleanOptionalAction
        else:
            arguments["metavar"] = "|".join(item.choices) if item.choices else _metavar(item)
        if get_origin(item.kind) is tuple:
            arguments["action"] = "append"
        groups[item.group].add_argument(item.flag, default=argparse.SUPPRESS, **arguments)


def with_flags(message: str, kind: type) -> str:
    """`message` with the settings it names in backquotes as flags: `pool` becomes --pool."""
    flags = {item.name: item.flag for item in _options(kind) if not item.secret}
    return _QUOTED_NAME.sub(lambda match: flags.get(match[1], match[0]), message)


def load(kind: type[Settings], flags: argparse.Namespace, prefix: str) -> Settings:
    """Read the settings from flags, environment (`prefix` + NAME) and TOML file; raises SettingsError."""
    options = {item.name: item for item in _options(kind)}
    environment = _from_environment(options, os.environ, prefix)
    path = getattr(flags, "config", None) or os.environ.get(prefix + "CONFIG")
    values = _from_file(options, Path(os.path.expanduser(path))) if path else {}
    values |= environment
    given = {name: value for name, value in vars(flags).items() if name in options}
    values |= {name: _parse(options[name], value, options[name].flag) for name, value in given.items()}
    try:
        return kind(**values)
    except ValueError as error:
        raise SettingsError(str(error)) from error


def _options(kind: type) -> list[_Option]:
    hints = get_type_hints(kind)
    return [
        _Option(
            field.name,
            _without_none(hints[field.name]),
            field.metadata["help"],
            field.metadata["group"],
            field.metadata["choices"],
            field.metadata["secret"],
            field.default,
        )
        for field in dataclasses.fields(kind)
    ]


def _without_none(hint: Any) -> Any:
    if get_origin(hint) is types.UnionType:
        return next(argument for argument in get_args(hint) if argument is not type(None))
    return hint


def _from_environment(
    options: Mapping[str, _Option], environment: Mapping[str, str], prefix: str
) -> dict[str, object]:
    values: dict[str, object] = {}
    for variable, text in environment.items():
        if not variable.startswith(prefix) or variable == prefix + "CONFIG":
            continue
        if is_service_variable(variable.removeprefix(prefix), text):
            continue  # Kubernetes' own, of a service with our name
        name = variable.removeprefix(prefix).lower()
        item = _known(options, name, f"environment variable {variable}")
        is_list = get_origin(item.kind) is tuple
        values[name] = _parse(item, [part for part in text.split(",") if part] if is_list else text, variable)
    return values


def _from_file(options: Mapping[str, _Option], path: Path) -> dict[str, object]:
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"cannot read the config file {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:  # also huge numbers, deep nesting, invalid UTF-8
        raise SettingsError(f"the config file {path} is not valid TOML: {error}") from error
    return {
        key: _parse(_known(options, key, f"key {key} in {path}"), value, f"{key} in {path}")
        for key, value in table.items()
    }


def _known(options: Mapping[str, _Option], name: str, source: str) -> _Option:
    if name in options:
        return options[name]
    raise SettingsError(f"unknown {source}; {_hint(name, options)}")


def _hint(name: str, known: Collection[str]) -> str:
    name = name.partition("=")[0]
    close = [one for one in known if one.startswith(name)] or difflib.get_close_matches(name, known, n=1)
    return f"did you mean {close[0]}?" if close else "see --help for the list"


def _parse(item: _Option, value: object, source: str) -> object:
    """Convert text (flags, environment) or a TOML value to the field's type."""
    if get_origin(item.kind) is tuple:
        entries = cast("list[object]", value) if isinstance(value, list) else [None]
        if not all(isinstance(entry, str) for entry in entries):
            raise SettingsError(f"{source}: expected a list of texts, got {value!r}")
        return tuple(entries)
    if item.choices and value not in item.choices:
        raise SettingsError(f"{source}: {value!r} is not one of {', '.join(item.choices)}")
    if isinstance(value, item.kind) and not (item.kind is int and isinstance(value, bool)):
        return value
    try:
        return _convert(item.kind, value)
    except (ValueError, KeyError, OverflowError) as error:
        raise SettingsError(
            f"{source}: expected {_EXPECTED.get(item.kind, 'text')}, got {value!r}"
        ) from error


def _convert(kind: Any, value: object) -> object:
    if kind is bool:
        return _TRUTH[str(value).lower()]
    if isinstance(value, str) or (kind is float and type(value) is int):
        return kind(value)
    raise ValueError(value)


_TRUTH = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}
_EXPECTED = {int: "a whole number", float: "a number", bool: "true or false", str: "text", Path: "a path"}


def _metavar(item: _Option) -> str:
    return {int: "N", float: "X", Path: "PATH"}.get(item.kind, "TEXT")


def _shown(default: object) -> str:
    return str(default.value) if isinstance(default, Enum) else str(default)
