"""Ctrl-C from the first line of a program to its last.

Law: an interrupted command ends with one line and code 130, never with a traceback. While modules are
imported and while the interpreter exits, an exception would be lost or changed on its way (numpy, torch and
transformers catch it), and nothing is open that must be closed: there the process ends at once. Only where
something is open (`interrupts_raised`) does Ctrl-C raise KeyboardInterrupt. SIGTERM keeps its default action,
which ends the process.

This module is imported before all others, and imports only what the interpreter has loaded already: `signal`
imports `enum`, which takes longer than all of our code up to there. A traceback is left to what comes before:
the interpreter's own start, and what `python -m` and the installer's script import.
"""

import os

# of `signal`, built in: every interpreter starts with it
from _signal import default_int_handler, getsignal, signal  # type: ignore[import-not-found]

INTERRUPTED = 130  # the exit code: 128 and the number of SIGINT
_SIGINT = 2


def exit_on_interrupt(program: str) -> None:
    """From now on, SIGINT writes one line and ends this process, unless it is ignored (`nohup`)."""
    if getsignal(_SIGINT) is default_int_handler:
        signal(_SIGINT, _Exit(program))


class interrupts_raised:  # noqa: N801 (read as a statement: `with interrupts_raised():`)
    """Within, SIGINT raises KeyboardInterrupt (`asyncio.run` cancels), so that what is open is closed."""

    def __enter__(self) -> None:
        self._before: object = getsignal(_SIGINT)
        if isinstance(self._before, _Exit):
            signal(_SIGINT, default_int_handler)

    def __exit__(self, *_: object) -> None:
        if isinstance(self._before, _Exit):
            signal(_SIGINT, self._before)


class _Exit:
    """Ends the process, past every `except` and `finally` between here and the entry."""

    def __init__(self, program: str) -> None:
        self._line = f"{program}: interrupted\n".encode()

    def __call__(self, _number: int, _frame: object) -> None:
        try:  # noqa: SIM105 (contextlib takes a while to import)
            os.write(2, self._line)
        except OSError:
            pass
        os._exit(INTERRUPTED)
