"""The entry of `cloud-worker`.

It handles Ctrl-C before it imports the command line, which takes a while on a small device.
"""

import sys
from collections.abc import Sequence

from common.process.interrupt import exit_on_interrupt
from common.process.streams import open_missing_streams


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code. Without `arguments`, this process is the command."""
    if arguments is None:
        open_missing_streams()
        exit_on_interrupt("cloud-worker")
    from cloud_worker.command_line import run

    return run(arguments)


if __name__ == "__main__":
    sys.exit(main())
