"""`mosquitto/provision`: the command line.

`certificates`, `init` and `restore` need no broker. The other commands talk to a running one and take effect
at once, without a restart.
"""

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Sequence
from typing import cast

from common.link import LinkError
from common.process.interrupt import INTERRUPTED, interrupts_raised
from common.process.log import printable
from common.process.paths import path_flag
from common.process.settings import CommandLine
from common.protocol.topics import DEFAULT_ROOT
from mosquitto.provisioning import ProvisionError
from mosquitto.provisioning.access import Kind
from mosquitto.provisioning.commands import add, certificates, init, remove, restore, rotate, show
from mosquitto.provisioning.folder import DEFAULT_FOLDER
from mosquitto.provisioning.state import ADMIN


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code (0: done, 1: failed, 2: wrong usage)."""
    flags = _parser().parse_args(arguments)
    try:
        with interrupts_raised():
            cast("Callable[[Namespace], None]", flags.run)(flags)
    except ValueError as error:
        return _complain(str(error), 2)
    except ProvisionError as error:
        return _complain(str(error), 1)
    except LinkError as error:  # it names settings, of which this command has one as a flag
        return _complain(str(error).replace("`broker`", "--broker"), 1)
    except OSError as error:
        return _complain(f"{error.filename or 'the system'}: {error.strerror or error}", 1)
    except KeyboardInterrupt:
        return _complain("interrupted: `provision list` shows what was done", INTERRUPTED)
    return 0


def _parser() -> ArgumentParser:
    parser = CommandLine(prog="provision", description="Accounts and certificates of the production broker.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run: Callable[[Namespace], None], help: str, *, online: bool) -> ArgumentParser:
        one = commands.add_parser(name, help=help, description=help)
        one.set_defaults(run=run)
        one.add_argument(
            "--folder",
            type=path_flag,
            default=DEFAULT_FOLDER,
            help=f"folder of the broker's files (default: {DEFAULT_FOLDER})",
        )
        root_help = f"the first levels of all topics (default: {DEFAULT_ROOT})"
        one.add_argument("--root", default=DEFAULT_ROOT, help=root_help)
        if online:
            one.add_argument(
                "--broker",
                default="mqtts://localhost:8883",
                metavar="URL",
                help="the running broker (default: mqtts://localhost:8883)",
            )
        return one

    one = command("certificates", certificates, "create an authority and certificates", online=False)
    one.add_argument("--host", action="append", default=[], help="the broker's name or address; repeatable")
    one.add_argument("--client", action="append", default=[], metavar="NAME", help="an account; repeatable")
    command("init", init, "create the broker's configuration and its administrator", online=False)
    command("restore", restore, "put the last good copy of the accounts back on disk", online=False)
    one = command("add", add, "create an account with the rights of its kind, and a password", online=True)
    one.add_argument("kind", choices=[kind.value for kind in Kind])
    one.add_argument("name", help="the account's name: its user name, and its name in topics")
    one.add_argument("--pool", action="append", default=[], help="pool of a worker or a device; repeatable")
    one.add_argument("--device", action="append", default=[], help="device that an app talks to; repeatable")
    one.add_argument(
        "--home-assistant",
        action="store_true",
        help="a device: may announce itself there; an app: is Home Assistant, with its own topics",
    )
    _add_out(one)
    one = command("remove", remove, "delete an account and close its connection", online=True)
    one.add_argument("name")
    one = command("rotate", rotate, "give an account a new password and close its connection", online=True)
    one.add_argument("name", help=f"an account; {ADMIN} is the administrator")
    _add_out(one)
    command("list", show, "show all accounts", online=True)
    return parser


def _add_out(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--out",
        type=path_flag,
        metavar="FILE",
        help="write the password to a new file (mode 600) instead of showing it",
    )


def _complain(message: str, code: int) -> int:
    print(f"provision: {printable(message)}", file=sys.stderr)
    return code
