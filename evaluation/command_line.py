"""The researcher's commands: measure, simulate and compare the schemes."""

import importlib
import sys
from collections.abc import Sequence

from common.process.interrupt import INTERRUPTED, interrupts_raised
from common.process.settings import CommandLine, SettingsError, with_flags
from edge_agent.errors import AgentError
from evaluation.help_format import HelpFormatter

COMMANDS = {
    "calibrate": "measure how well uncertainty predicts rejection, and derive thresholds",
    "simulate": "simulate schemes over channels and speeds, with the real code of both ends",
    "fleet": "simulate how many devices a pool of workers carries, up to a million",
    "risk": "check that a steered threshold keeps the measured risk where a fixed one does not",
    "quality": "score the texts of each scheme on held-out commands",
    "structured": "measure what the schema of the home costs and saves, with and without it",
    "real-models": "measure a real pair: tasks, exactness, speed beside other engines, calibration",
    "value": "show what a hybrid saves: worker seconds, bytes, joules and speed of each scheme for a pair",
    "bytes": "count what a verified token costs on the wire: plain, packed, and the lower bound",
}

RESUMABLE = (
    "calibrate",
    "simulate",
    "quality",
    "structured",
    "real-models",
    "value",
)  # they keep finished work on the disk


def run(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code (0: done, 1: failed, 2: wrong usage, 130: interrupted)."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    chosen = next((each for each in arguments if not each.startswith("-")), None)
    parser = CommandLine(
        prog="python -m evaluation",
        description=__doc__,
        epilog="Give a command with --help to see its flags.",
        formatter_class=HelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, summary in COMMANDS.items():
        command = commands.add_parser(name, help=summary, formatter_class=HelpFormatter)
        if name == chosen:  # the others are not imported
            module = importlib.import_module(f"evaluation.{name.replace('-', '_')}.command")
            command.description = module.__doc__
            module.add_flags(command)
            command.set_defaults(run=module.run)
    flags = parser.parse_args(arguments)
    try:
        with interrupts_raised():
            return flags.run(flags)
    except (SettingsError, AgentError, OSError) as error:
        from edge_agent.config import AgentConfig  # loads numpy, which --help does without

        print(f"evaluation {flags.command}: {with_flags(str(error), AgentConfig)}", file=sys.stderr)
        return 2 if isinstance(error, SettingsError) else 1
    except KeyboardInterrupt:
        effect = "resumes" if flags.command in RESUMABLE else "starts over"
        print(f"evaluation {flags.command}: interrupted; the same command {effect}", file=sys.stderr)
        return INTERRUPTED
