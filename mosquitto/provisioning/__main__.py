"""The entry of `mosquitto/provision`.

Law: it handles Ctrl-C before it does or imports anything else. It explains why the command line cannot be
imported: a Python that is too old for the rest reads this file too.
"""

import os
import sys

from common.process.interrupt import exit_on_interrupt


def main(arguments: "list[str] | None" = None) -> int:
    """Run the command; returns its exit code. Without `arguments`, this process is the command."""
    if arguments is None:
        exit_on_interrupt("provision")
        from common.process.streams import open_missing_streams

        open_missing_streams()
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
