"""Renders chat templates in a process of its own; run as a program by `chat_template.py`.

A template is a program of whoever made the model: it can loop for ever and fill any memory, and nothing in
the same process can stop it inside of one long operation. Law: this process has 256 MiB and two seconds of
CPU time for a rendering, sees only plain data, and ends with its parent. It imports nothing of ours.

One JSON object per line: {"source", "tokens", "vars", "messages", "tools"} in, {"text"} or {"error"} out.
"""

import json
import resource
import signal
import sys
from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache
from typing import Any

from jinja2 import Template, TemplateError, nodes, pass_context
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

MAX_MEMORY = 256 * 1024 * 1024  # bytes beyond what the process needs to begin
MAX_SECONDS = 2.0
MAX_CHARACTERS = 4_000_000  # of a prompt; longer than any model takes
FAILURES = (
    *(TemplateError, TypeError, ValueError, KeyError, IndexError, AttributeError),
    *(ArithmeticError, RecursionError),
)


@lru_cache(maxsize=8)
def compiled(source: str) -> Template:
    """The template; what jinja2 raises for one that is not valid."""
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=[_Generation, loopcontrols],
        # else jinja computes constant expressions, which may be huge, while it compiles
        optimized=False,
        finalize=_as_it_is,
    )
    environment.filters["tojson"] = _to_json
    return environment.from_string(source, globals={"raise_exception": _raise, "strftime_now": _now})


@pass_context
def _as_it_is(_context: object, value: object) -> object:
    return value


def answer(request: Mapping[str, Any]) -> dict[str, str]:
    """The answer to one request."""
    try:
        text = compiled(request["source"]).render(
            **request["tokens"],
            **request["vars"],
            messages=request["messages"],
            tools=request["tools"],
            documents=None,
            add_generation_prompt=True,
        )
    except FAILURES as error:
        return {"error": str(error)[:500] or type(error).__name__}
    if len(text) > MAX_CHARACTERS:
        return {"error": f"it makes a prompt of {len(text)} characters"}
    return {"text": text}


class _Generation(Extension):
    """{% generation %} ... {% endgeneration %} marks what a model is trained on; here it has no effect."""

    tags = {"generation"}  # noqa: RUF012 (as jinja declares it)

    def parse(self, parser: Parser) -> list[nodes.Node]:
        """The body, as if the tags were not there."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _to_json(
    value: object,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """JSON without the HTML escapes of jinja's own filter, and with keys in their order."""
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def _raise(message: str) -> None:
    raise TemplateError(message)


def _now(pattern: str) -> str:
    return datetime.now().strftime(pattern)


def main() -> None:
    """Answer requests until the parent closes the pipe; the kernel ends a rendering that takes too long."""
    sys.path[:] = json.loads(sys.argv[1])
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent
    _limit_memory()
    for line in sys.stdin:
        request = json.loads(line)
        signal.setitimer(signal.ITIMER_PROF, MAX_SECONDS)
        answered = json.dumps(answer(request))
        signal.setitimer(signal.ITIMER_PROF, 0.0)
        print(answered, flush=True)


def _limit_memory() -> None:
    try:
        with open("/proc/self/statm") as file:
            used = int(file.read().split()[0]) * resource.getpagesize()
    except OSError:
        return  # not Linux: only the time is limited
    resource.setrlimit(resource.RLIMIT_AS, (used + MAX_MEMORY, used + MAX_MEMORY))


if __name__ == "__main__":
    main()
