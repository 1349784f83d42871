"""Lines of standard input, read without blocking the event loop.

Law: waiting for input stops nothing else. The link stays alive, and Ctrl-C ends the wait at once: the reading
thread is a daemon with a stream of its own, so nothing waits for it, not even the exit.
"""

import asyncio
import sys
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import suppress


async def typed_lines(prompt: str = "") -> AsyncIterator[str]:
    """Yield each line without its end, until the end of input; `prompt` is shown before each."""
    if sys.stdin is None:  # closed by the parent process
        return
    # never closed: that would wait for the reading thread
    stream = open(sys.stdin.fileno(), encoding=sys.stdin.encoding, errors="replace", closefd=False)  # noqa: SIM115
    while True:
        print(prompt, end="", flush=True)
        line = await _in_daemon(stream.readline)
        if not line:
            return
        yield line.rstrip("\n")


async def _in_daemon(read: Callable[[], str]) -> str:
    loop = asyncio.get_running_loop()
    line: asyncio.Future[str] = loop.create_future()

    def run() -> None:
        try:
            text = read()
        except OSError:  # a closed terminal is the end of input
            text = ""
        with suppress(RuntimeError):  # the loop has been closed: no one is waiting
            loop.call_soon_threadsafe(lambda: None if line.done() else line.set_result(text))

    threading.Thread(target=run, name="typed-lines", daemon=True).start()
    return await line
