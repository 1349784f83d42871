"""The tools that an app offers, and which of them an answer may or must call, as in OpenAI's API. Pure.

Law: what cannot be used is refused here, with a message that names its field.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from edge_agent.errors import ConfigError

MAX_TOOLS = 256
MAX_CALLS = 32  # of one answer
NAME = re.compile(r"[A-Za-z0-9_.:/-]{1,128}")
CHOICES = ("auto", "none", "required")

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Tool:
    """One function; `parameters` is the JSON schema of its arguments."""

    name: str
    parameters: Json
    shown: Json  # as the app described it, for the chat template

    @property
    def base_name(self) -> str:
        """Without what comes before the last `__`: Home Assistant names the integration there."""
        return self.name.rpartition("__")[2]


@dataclass(frozen=True, slots=True)
class ToolUse:
    """What one answer may do with tools: `callable` are those among `tools` that it can call."""

    tools: tuple[Tool, ...]
    callable: tuple[Tool, ...]
    must_call: bool = False
    is_parallel: bool = True  # more than one call

    @property
    def most_calls(self) -> int:
        """How many calls one answer has at most."""
        return MAX_CALLS if self.is_parallel else 1

    @property
    def shown(self) -> list[Json]:
        """What a chat template gets."""
        return [tool.shown for tool in self.tools]


def tool_use(tools: object, choice: object = None, parallel: object = None) -> ToolUse | None:
    """The use of `tools` under a `tool_choice`; None when none may be called. Raises ConfigError."""
    found = _tools(tools)
    mode, names = _choice(choice)
    if parallel is not None and not isinstance(parallel, bool):
        raise ConfigError("`parallel_tool_calls` must be true or false")
    if not found and mode == "required":
        raise ConfigError("`tool_choice` needs `tools`: list at least one")
    known = {tool.name for tool in found}
    for name in names or ():
        if name not in known:
            raise ConfigError(f"`tool_choice` names {name[:80]!r}, which is not among `tools`")
    if not found or mode == "none":
        return None
    chosen = found if names is None else tuple(tool for tool in found if tool.name in names)
    is_named = mode == "required" and names is not None and isinstance(choice, Mapping) and len(chosen) == 1
    return ToolUse(found, chosen, mode == "required", parallel is not False and not is_named)


def _tools(found: object) -> tuple[Tool, ...]:
    if found is None:
        return ()
    if not isinstance(found, Sequence) or isinstance(found, str):
        raise ConfigError("`tools` must be a list of tools")
    listed = cast("Sequence[object]", found)
    if len(listed) > MAX_TOOLS:
        raise ConfigError(f"`tools` has more than {MAX_TOOLS} tools: offer fewer")
    tools = tuple(_tool(one, f"tools[{number}]") for number, one in enumerate(listed))
    names = [tool.name for tool in tools]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ConfigError(f"`tools` has two tools with the name {twice!r}: rename one")
    return tools


def _tool(found: object, at: str) -> Tool:
    shown = _object(found, at)
    if shown.get("type", "function") != "function":
        raise ConfigError(f"`{at}.type` must be function: no other kind of tool is supported")
    function = _object(shown.get("function"), f"{at}.function")
    parameters: object = function.get("parameters")
    schema = {} if parameters is None else _schema(parameters, f"{at}.function.parameters")
    description: object = function.get("description")
    if description is not None and not isinstance(description, str):
        raise ConfigError(f"`{at}.function.description` must be a text")
    name = _name(function.get("name"), f"{at}.function.name")
    described = {"name": name, "description": description or "", "parameters": schema or NO_PARAMETERS}
    return Tool(name, schema, {"type": "function", "function": described})


NO_PARAMETERS: Json = {"type": "object", "properties": {}}


def _schema(found: object, at: str) -> Json:
    schema = _object(found, at)
    if schema.get("type", "object") != "object":
        raise ConfigError(f"`{at}.type` must be object: arguments have names")
    try:
        json.dumps(schema, allow_nan=False, ensure_ascii=False).encode()
    except (TypeError, ValueError, RecursionError) as error:  # ValueError: NaN, or text that is not Unicode
        raise ConfigError(f"`{at}` must be plain JSON in Unicode, without NaN") from error
    return schema


def _choice(found: object) -> tuple[str, tuple[str, ...] | None]:
    """The mode, and the names that it is limited to; None: all."""
    if found is None:
        return "auto", None
    if isinstance(found, str):
        if found not in CHOICES:
            raise ConfigError(f"`tool_choice` must be one of {', '.join(CHOICES)}, or name a function")
        return found, None
    chosen = _object(found, "tool_choice")
    if chosen.get("type") == "allowed_tools":
        allowed = _object(chosen.get("allowed_tools"), "tool_choice.allowed_tools")
        mode, listed = allowed.get("mode"), allowed.get("tools")
        if mode not in ("auto", "required"):
            raise ConfigError("`tool_choice.allowed_tools.mode` must be auto or required")
        if not isinstance(listed, list) or not listed:
            raise ConfigError("`tool_choice.allowed_tools.tools` must be a list with at least one tool")
        return mode, tuple(_named(one, "tool_choice.allowed_tools.tools") for one in listed)
    if chosen.get("type", "function") != "function":
        raise ConfigError("`tool_choice.type` must be function or allowed_tools")
    return "required", (_named(chosen, "tool_choice"),)


def _named(found: object, at: str) -> str:
    return _name(
        _object(_object(found, at).get("function"), f"{at}.function").get("name"), f"{at}.function.name"
    )


def _name(found: object, at: str) -> str:
    if not isinstance(found, str) or not NAME.fullmatch(found):
        raise ConfigError(f"`{at}` must be a name of 1 to 128 letters, digits and _ . : / -")
    return found


def _object(found: object, at: str) -> Json:
    if not isinstance(found, Mapping):
        raise ConfigError(f"`{at}` must be an object")
    return cast("Json", found)
