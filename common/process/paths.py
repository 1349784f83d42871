"""Paths on a command line, where `--to=~/models` reaches a program without the shell's help.

Law: `~` and `~user` are home folders here as in a shell, and no folder of such a name is made by mistake.
"""

import os
from argparse import ArgumentTypeError
from pathlib import Path


def path_flag(text: str) -> Path:
    """The path, for argparse's `type`; an error for the home of an unknown user."""
    path = Path(os.path.expanduser(text))
    if text.startswith("~") and path == Path(text) and not os.path.lexists(path.parts[0]):
        raise ArgumentTypeError(f"there is no user {path.parts[0][1:]!r}: write ./{text} if it is a name")
    return path
