"""The entry of `mosquitto/provision`.

It handles Ctrl-C before it imports the command line, and explains why that cannot be imported. A Python that
is too old for the rest reads this file too.
"""

import os
import sys
from collections.abc import Sequence

from common.process.interrupt import exit_on_interrupt
from common.process.streams import open_missing_streams


def main(arguments: "Sequence[str] | None" = None) -> int:
    """Run the command; returns its exit code. Without `arguments`, this process is the command."""
    if arguments is None:
        open_missing_streams()
        exit_on_interrupt("provision")
    try:
        from mosquitto.provisioning.command_line import run
    except (ImportError, SyntaxError) as error:
        sys.exit(
            f"provision: {sys.executable} cannot run this ({error}): activate the project's virtual "
            "environment, or create one: python3.11 -m venv .venv && .venv/bin/pip install -e ."
        )
    return run(arguments)


if __name__ == "__main__":
    os.umask(0o077)
    sys.exit(main())
