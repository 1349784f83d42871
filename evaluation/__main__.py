"""The entry of `python -m evaluation`.

Law: it handles Ctrl-C before it does or imports anything else, which takes a while on a small device.
"""

import sys

from common.process.interrupt import exit_on_interrupt


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit code. Without `arguments`, this process is the command."""
    if arguments is None:
        exit_on_interrupt("evaluation")
        from common.process.streams import open_missing_streams

        open_missing_streams()
    from evaluation.command_line import run

    return run(arguments)


if __name__ == "__main__":
    sys.exit(main())
