"""A model's chat template, rendered as transformers renders it, in jinja's sandbox.

Law: a template is untrusted. It gets plain data, pure functions and the date, cannot leave the sandbox, and
runs in a process that is limited in time and memory (`template_renderer.py`).
"""

import atexit
import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from threading import Lock
from typing import cast

from edge_agent.errors import ModelError, PromptError
from edge_agent.text import template_renderer
from edge_agent.text.template_renderer import FAILURES, MAX_MEMORY, MAX_SECONDS, compiled
from edge_agent.text.template_vars import refuse_unused

MAX_SOURCE = 1_000_000  # characters; the longest known templates have 20,000
MAX_WAIT = 30.0  # seconds for an answer, the start of the process among them


class ChatTemplate:
    """One valid template."""

    def __init__(self, source: str, special_tokens: Mapping[str, str]) -> None:
        """Check `source`; raises ModelError when it is not a valid template."""
        self.source = source
        self._special_tokens = dict(special_tokens)
        try:
            if len(source) > MAX_SOURCE:
                raise ValueError(f"{len(source)} characters")
            compiled(source)
            RENDERER.begin()  # while the model loads
        except (*FAILURES, SyntaxError, MemoryError) as error:
            raise ModelError(
                f"The model's chat template cannot be read ({_short(str(error))}): send plain prompts."
            ) from error

    def check(self, names: Collection[str]) -> None:
        """Raise PromptError for the name of a variable that this template cannot be given."""
        refuse_unused(names, self.source, self._special_tokens)

    def render(
        self,
        messages: Sequence[Mapping[str, object]],
        *,
        tools: Sequence[Mapping[str, object]] | None,
        template_vars: Mapping[str, object] | None = None,
    ) -> str:
        """Render the prompt up to the assistant's turn; raises PromptError when the template refuses it.

        `template_vars` have passed `check`. ModelError for a template that takes too much time or memory.
        """
        request = {
            "source": self.source,
            "tokens": self._special_tokens,
            "vars": template_vars or {},
            "messages": messages,
            "tools": tools,
        }
        try:
            line = json.dumps(request)
        except (TypeError, ValueError, RecursionError) as error:
            raise PromptError(
                f"The model's chat template refuses these messages (not plain data: {error})."
            ) from error
        answer = RENDERER.ask(line)
        if "text" not in answer:
            raise PromptError(
                f"The model's chat template refuses these messages ({_short(answer.get('error', ''))})."
            )
        return answer["text"]


class _Renderer:
    """The process that renders, started when first needed and again after a template that broke it."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._pid = 0  # of the process that started it: a fork must not share the pipe
        self._lock = Lock()

    def begin(self) -> None:
        """Start the process, if it does not run."""
        with self._lock:
            self._running()

    def ask(self, line: str) -> dict[str, str]:
        """The answer to a request; ModelError when there is none within the limits."""
        with self._lock:
            process = self._running()
            answer = _exchange(process, line.encode() + b"\n")
            if answer is None:
                self.close()
                raise ModelError(
                    f"The model's chat template takes more than {MAX_SECONDS:g} s or {MAX_MEMORY >> 20} MiB: "
                    "use `raw`, or another model."
                )
            return cast("dict[str, str]", json.loads(answer))

    def close(self) -> None:
        """End the process."""
        process, self._process = self._process, None
        if process is not None and self._pid == os.getpid():
            process.kill()
            process.communicate()

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._pid != os.getpid() or self._process.poll() is not None:
            program = str(Path(template_renderer.__file__))
            command = [sys.executable, "-P", program, json.dumps(sys.path)]
            try:
                self._process = subprocess.Popen(
                    command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
                )
            except OSError as error:
                raise ModelError(f"The chat template cannot be rendered ({error}): use `raw`.") from error
            self._pid = os.getpid()
        return self._process


def _exchange(process: subprocess.Popen[bytes], line: bytes) -> bytes | None:
    """Write a line and read one; None when the process ends or does not answer in time."""
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(line)
        process.stdin.flush()
    except BrokenPipeError:
        return None
    answer, end = b"", time.monotonic() + MAX_WAIT
    while not answer.endswith(b"\n"):
        ready, _, _ = select.select([process.stdout], [], [], max(0.0, end - time.monotonic()))
        part = os.read(process.stdout.fileno(), 1 << 20) if ready else b""
        if not part:
            return None
        answer += part
    return answer


def _short(reason: str) -> str:
    """One line of it."""
    return " ".join(reason.split())[:200]


RENDERER = _Renderer()
atexit.register(RENDERER.close)
