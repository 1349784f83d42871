"""The entry of `python -m evaluation.demo`, which handles Ctrl-C before it imports the demo."""

import sys

from common.process.interrupt import exit_on_interrupt

if __name__ == "__main__":
    exit_on_interrupt("demo")
    from evaluation.demo.command import run

    sys.exit(run())
