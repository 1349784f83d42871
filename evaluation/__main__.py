"""`python -m evaluation`: the researcher's commands; each is a module that is loaded when asked for."""

import argparse
import importlib
import sys
from collections.abc import Sequence

from common.process.settings import CommandLine, SettingsError, with_flags

COMMANDS = {
    "calibrate": "how a pair's uncertainty foretells rejection, and the thresholds that follow",
    "simulate": "schemes over channels and speeds, in virtual time with the real code of both ends",
    "fleet": "how many devices a pool of workers carries, simulated up to a million",
    "risk": "whether a steered threshold keeps the measured risk where a fixed one does not",
    "quality": "what each scheme's text is worth on held-out commands",
    "bytes": "what a verified token costs on the wire: plain, packed, and the least that is possible",
}

KEPT = ("calibrate", "simulate", "quality")  # what they have done is on the disk


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code (0: done, 1: could not, 2: wrong usage, 130: interrupted)."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    chosen = next((each for each in arguments if not each.startswith("-")), None)
    parser = CommandLine(prog="python -m evaluation", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, summary in COMMANDS.items():
        command = commands.add_parser(
            name, help=summary, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        if name == chosen:
            module = importlib.import_module(f"evaluation.{name}.command")
            command.description = module.__doc__
            module.add_flags(command)
            command.set_defaults(run=module.run)
    flags = parser.parse_args(arguments)
    try:
        return flags.run(flags)
    except (SettingsError, OSError) as error:
        from edge_agent.config import AgentConfig  # loads numpy, which --help does without

        print(f"evaluation {flags.command}: {with_flags(str(error), AgentConfig)}", file=sys.stderr)
        return 2 if isinstance(error, SettingsError) else 1
    except KeyboardInterrupt:
        what_now = "the same command goes on from here" if flags.command in KEPT else "it will begin anew"
        print(f"evaluation {flags.command}: interrupted; {what_now}", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
