"""Ctrl-C from the first line of a program to its last.

Law: an interrupted command ends with one line and code 130, never with a traceback. While modules are
imported and while the interpreter exits, an exception would be lost or changed on its way (numpy, torch and
transformers catch it), and nothing is open that must be closed: there the process ends at once. Only where
something is open (`interrupts_raised`) does Ctrl-C raise KeyboardInterrupt. SIGTERM keeps its default action,
which ends the process.

This module is imported before all others, so it needs nothing that takes long to import.
"""

import os
import signal
from collections.abc import Generator
from contextlib import contextmanager, suppress

INTERRUPTED = 130  # the exit code: 128 and the number of SIGINT


def exit_on_interrupt(program: str) -> None:
    """From now on, SIGINT writes one line and ends this process, unless it is ignored (`nohup`)."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _Exit(program))


@contextmanager
def interrupts_raised() -> Generator[None]:
    """Within, SIGINT raises KeyboardInterrupt (`asyncio.run` cancels), so that what is open is closed."""
    before = signal.getsignal(signal.SIGINT)
    if not isinstance(before, _Exit):
        yield
        return
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        yield
    finally:
        signal.signal(signal.SIGINT, before)


class _Exit:
    """Ends the process, past every `except` and `finally` between here and the entry."""

    def __init__(self, program: str) -> None:
        self._line = f"{program}: interrupted\n".encode()

    def __call__(self, _number: int, _frame: object) -> None:
        with suppress(OSError):
            os.write(2, self._line)
        os._exit(INTERRUPTED)
