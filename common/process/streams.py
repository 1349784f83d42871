"""Standard streams that the parent process has closed.

Law: descriptors 0 to 2 are never free. Otherwise the next file or socket that is opened gets one of them, and
whatever a library prints goes into it.
"""

import os
import sys


def open_missing_streams() -> None:
    """Let those that are closed read nothing and write nowhere."""
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)  # the lowest free one
            if opened != descriptor:
                os.dup2(opened, descriptor)
                os.close(opened)
            os.set_inheritable(descriptor, True)
    # sys says that they are never None, but they are where the parent has closed them
    for descriptor, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            stream = open(descriptor, "r" if descriptor == 0 else "w", closefd=False)  # noqa: SIM115
            setattr(sys, name, stream)
