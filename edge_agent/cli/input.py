"""Text from standard input or a file, read without blocking the event loop.

Law: waiting for input stops nothing else. The link stays alive, and Ctrl-C ends the wait at once: the reading
thread is a daemon with a stream of its own, so nothing waits for it, not even the exit. Input without an end
or without line ends takes a bounded amount of memory.
"""

import asyncio
import errno
import sys
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from io import StringIO
from pathlib import Path
from typing import TextIO

from edge_agent.errors import PromptError

MAX_CHARACTERS = 1 << 20  # of one prompt, or of one line


def open_input(path: Path | None = None) -> TextIO:
    """Standard input, or the UTF-8 text file `path`; raises PromptError when it cannot be opened.

    It is never closed: that would wait for the reading thread.
    """
    if path is not None:
        try:
            return path.open(encoding="utf-8-sig")
        except OSError as error:
            raise PromptError(f"cannot read {path}: {error.strerror}") from error
    if sys.stdin is None:  # closed by the parent process
        return StringIO()
    return open(sys.stdin.fileno(), encoding=sys.stdin.encoding, errors="replace", closefd=False)


async def read_whole(stream: TextIO) -> str:
    """All text up to the end of input, without its last line ends; raises PromptError when it is too long."""
    text = await _in_daemon(lambda: stream.read(MAX_CHARACTERS + 1))
    if len(text) > MAX_CHARACTERS:
        raise PromptError(f"the prompt is longer than {MAX_CHARACTERS:,} characters: shorten it")
    return text.rstrip("\n")


async def read_lines(stream: TextIO, prompt: str = "") -> AsyncIterator[str]:
    """Yield each line without its end, until the end of input; `prompt` is shown before each.

    A line of more than `MAX_CHARACTERS` is cut after one character more.
    """
    while True:
        print(prompt, end="", flush=True)
        line = await _in_daemon(lambda: _bounded_line(stream))
        if not line:
            return
        yield line.removesuffix("\n")


def _bounded_line(stream: TextIO) -> str:
    line = part = stream.readline(MAX_CHARACTERS + 1)
    while len(part) > MAX_CHARACTERS and not part.endswith("\n"):
        part = stream.readline(MAX_CHARACTERS + 1)
    return line


async def _in_daemon(read: Callable[[], str]) -> str:
    loop = asyncio.get_running_loop()
    result: asyncio.Future[str] = loop.create_future()

    def run() -> None:
        outcome: str | PromptError
        try:
            outcome = read()
        except UnicodeDecodeError:
            outcome = PromptError("the file of the prompt is not UTF-8 text: convert it")
        except OSError as error:  # a closed terminal is the end of input
            cause = f"cannot read the prompt: {error.strerror}"
            outcome = "" if error.errno == errno.EIO else PromptError(cause)
        with suppress(RuntimeError):  # the loop has been closed: nothing is waiting
            loop.call_soon_threadsafe(_settle, result, outcome)

    threading.Thread(target=run, name="input", daemon=True).start()
    return await result


def _settle(result: asyncio.Future[str], outcome: str | PromptError) -> None:
    if result.done():
        return
    if isinstance(outcome, PromptError):
        result.set_exception(outcome)
    else:
        result.set_result(outcome)
