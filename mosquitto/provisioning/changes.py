"""A change of the accounts in the running broker, checked on both sides: in its memory and on its disk.

Law: the last good file is copied before a change. A change that the broker's file does not have is undone
where that is possible, the copy is put back, and the command fails.
"""

import asyncio
from argparse import Namespace
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import cast

from common.link import Link, LinkError, LinkSettings
from mosquitto.provisioning import ProvisionError
from mosquitto.provisioning.accounts_file import AccountsFile, IsDone
from mosquitto.provisioning.certificates import client_files
from mosquitto.provisioning.control import Control
from mosquitto.provisioning.folder import Folder
from mosquitto.provisioning.state import ADMIN, Json

Work = Callable[[Control], Awaitable[None]]


def change(
    flags: Namespace,
    work: Work,
    is_done: IsDone,
    *,
    undo: Work | None = None,
    password: str | None = None,
    left: str = "",
) -> None:
    """Let `work` change the accounts, and check that the broker's file `is_done`; raises ProvisionError.

    `undo` takes the change back, as administrator with `password` if the change was that password. `left`
    tells people what is left of a change that cannot be undone.
    """
    folder = Folder(flags.folder)
    file = AccountsFile(folder)
    with folder.alone():
        if file.is_here:
            file.keep()
        with_control(flags, work)
        if file.confirm(is_done):
            return
        if undo is not None:
            try:
                with_control(flags, undo, password)
                left = "the change is undone"
            except (LinkError, ProvisionError) as error:
                left = f"the change cannot be undone ({error})"
        raise ProvisionError(
            f"the broker could not write {folder.state} ({file.free_space}): {left}, and {file.put_back()}; "
            "make space, then repeat the command"
        )


def with_control(flags: Namespace, work: Work, password: str | None = None) -> None:
    """Do `work` as administrator; the caller holds the folder's lock."""

    async def run() -> None:
        async with Control.connected(settings(flags, ADMIN, password)) as control:
            await work(control)

    asyncio.run(run())


def check_login(flags: Namespace, name: str, password: str) -> None:
    """Connect as an account once; ProvisionError when the broker does not let it in."""

    async def run() -> None:
        async with Link(settings(flags, name, password)):
            pass

    try:
        asyncio.run(run())
    except LinkError as error:
        raise ProvisionError(f"the new password of {name} does not work: {error}") from error


def settings(flags: Namespace, name: str, password: str | None = None) -> LinkSettings:
    """How an account connects from here; with the administrator's password if none is given."""
    folder = Folder(flags.folder)
    certificate, key = client_files(folder, ADMIN)
    return LinkSettings(
        flags.broker,
        username=name,
        password=password or folder.read_password(),
        ca_file=_if_there(folder.authority),
        cert_file=_if_there(certificate),
        key_file=_if_there(key),
    )


async def client_of(control: Control, name: str) -> Json:
    """What the broker knows of an account; ProvisionError when there is none."""
    (answer,) = await control.attempt({"command": "getClient", "username": name})
    if "error" in answer:
        raise ProvisionError(f"no account {name}: see `provision list`")
    return cast("Json", cast("Json", answer["data"])["client"])


def _if_there(path: Path) -> str | None:
    return str(path) if path.exists() else None
