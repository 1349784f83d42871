"""The commands; `flags` are those of __main__.py.

Law: a password is generated here, shown once, and never passed as an argument.
"""

import asyncio
import json
from argparse import Namespace
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import cast

from common.link import LinkError, LinkSettings
from common.protocol.topics import MAX_NAME_LENGTH, Topics, check_name
from mosquitto.provisioning import ProvisionError
from mosquitto.provisioning.access import Account, Kind
from mosquitto.provisioning.certificates import (
    certify_client,
    certify_server,
    client_files,
    make_authority,
)
from mosquitto.provisioning.configuration import configuration
from mosquitto.provisioning.control import Control, check
from mosquitto.provisioning.folder import Folder, give_to_broker, write_secret
from mosquitto.provisioning.state import (
    ADMIN,
    Json,
    create_client,
    describe,
    grant,
    initial_state,
    new_password,
    role_name,
    set_password,
)

# -- without a broker ----------------------------------------------------------------------------------


def certificates(flags: Namespace) -> None:
    """Make the authority if it is missing, and the requested certificates."""
    if not flags.host and not flags.client:
        raise ValueError("nothing to certify: add --host NAME for the broker, --client NAME for an account")
    folder = Folder(flags.folder)
    folder.create()
    made = make_authority(folder)
    print(f"{folder.authority}: the authority, {'new' if made else 'unchanged'}; copy it to every client")
    if flags.host:
        certify_server(folder, flags.host)
        print(f"{folder.certificate}: the broker's certificate; a running broker reloads it on SIGHUP")
    for name in flags.client:
        certificate, key = certify_client(folder, name)
        print(f"{certificate}, {key}: for {name}; move both to that machine")


def init(flags: Namespace) -> None:
    """Make the broker's initial state and its configuration."""
    folder, topics = Folder(flags.folder), Topics(flags.root)
    if folder.state.exists():
        raise ProvisionError(f"{folder.state} exists: this broker has accounts (see `provision list`)")
    text, password = configuration(folder.path), new_password()
    folder.create()
    write_secret(folder.password, password + "\n", replace=True)
    write_secret(folder.configuration, text, replace=True)
    folder.configuration.chmod(0o644)
    write_secret(folder.state, json.dumps(initial_state(password, topics), indent=1))
    give_to_broker(folder.state)
    print(f"{folder.state}: the accounts; the administrator's password is in {folder.password}")
    if not folder.certificate.exists():
        print(f"{folder.certificate} is missing: run `provision certificates --host NAME`")
    print(f"start the broker: mosquitto -c {folder.configuration}")


# -- with a running broker -----------------------------------------------------------------------------


def add(flags: Namespace) -> None:
    """Create an account with the rights of its kind."""
    account = Account(Kind(flags.kind), flags.name, tuple(flags.pool), tuple(flags.device))
    if account.name == ADMIN:
        raise ValueError(f"{ADMIN} is the administrator's name: choose another")
    topics, password = Topics(flags.root), new_password()

    async def create(control: Control) -> None:
        (answer,) = await control.attempt(create_client(account, password))
        if answer.get("error") == "Client already exists":
            raise ProvisionError(f"account {account.name} already exists: remove it or choose another name")
        check(answer)
        await control.attempt({"command": "deleteRole", "rolename": role_name(account)})  # a former account's
        await control.do(*grant(account, topics))

    _hand_over(flags, password, lambda: _with_control(flags, create))
    print(f"{account.name}: {describe(account)}")


def remove(flags: Namespace) -> None:
    """Delete an account with its rights, its connection and its status."""
    name = check_name(flags.name, "account")
    if name == ADMIN:
        raise ValueError(f"{ADMIN} cannot be removed: it is needed to manage accounts")
    topics = Topics(flags.root)

    async def delete(control: Control) -> None:
        client = await _client(control, name)
        await control.do({"command": "deleteClient", "username": name})
        roles = [role["rolename"] for role in cast("list[Json]", client.get("roles", []))]
        await control.attempt(*({"command": "deleteRole", "rolename": role} for role in roles))
        await control.clear([topics.device(name), topics.worker(name)])

    _with_control(flags, delete)
    print(f"account {name} is removed")


def rotate(flags: Namespace) -> None:
    """Give an account a new password."""
    name, password = check_name(flags.name, "account"), new_password()
    if name == ADMIN:
        _rotate_admin(flags, password)
        return

    async def change(control: Control) -> None:
        await _client(control, name)
        await control.do(set_password(name, password))  # which also ends the connection

    _hand_over(flags, password, lambda: _with_control(flags, change))


def _rotate_admin(flags: Namespace, password: str) -> None:
    """The broker disconnects us before it answers, so a login with the new password is the check."""
    folder = Folder(flags.folder)
    if flags.out is not None:
        raise ValueError(f"the administrator's password stays in {folder.password}: leave out --out")
    pending = folder.password.with_name("password.pending")
    write_secret(pending, password + "\n", replace=True)

    async def change(control: Control) -> None:
        await control.send(set_password(ADMIN, password))

    async def look(control: Control) -> None:
        await _client(control, ADMIN)

    _with_control(flags, change)
    try:
        _with_control(flags, look, password)
    except (LinkError, ProvisionError) as error:
        raise ProvisionError(
            f"{error}; the valid password is now in {pending}, or still in {folder.password}"
        ) from error
    pending.rename(folder.password)
    print(f"the administrator's new password is in {folder.password}")


def show(flags: Namespace) -> None:
    """Print all accounts."""

    async def list_all(control: Control) -> None:
        (answer,) = await control.do({"command": "listClients", "verbose": True})
        for client in cast("list[Json]", cast("Json", answer["data"])["clients"]):
            print(f"{client['username']:<{MAX_NAME_LENGTH}}  {client.get('textdescription', '')}")

    _with_control(flags, list_all)


def _with_control(
    flags: Namespace, work: Callable[[Control], Awaitable[None]], password: str | None = None
) -> None:
    folder = Folder(flags.folder)

    certificate, key = client_files(folder, ADMIN)

    async def run() -> None:
        settings = LinkSettings(
            flags.broker,
            username=ADMIN,
            password=password or folder.read_password(),
            ca_file=_if_there(folder.authority),
            cert_file=_if_there(certificate),
            key_file=_if_there(key),
        )
        async with Control.connected(settings) as control:
            await work(control)

    with folder.alone():
        asyncio.run(run())


def _if_there(path: Path) -> str | None:
    return str(path) if path.exists() else None


async def _client(control: Control, name: str) -> Json:
    (answer,) = await control.attempt({"command": "getClient", "username": name})
    if "error" in answer:
        raise ProvisionError(f"no account {name}: see `provision list`")
    return cast("Json", cast("Json", answer["data"])["client"])


def _hand_over(flags: Namespace, password: str, change: Callable[[], None]) -> None:
    """Make the change and hand over its password. A file is written first, so that it cannot be lost."""
    out = cast("Path | None", flags.out)
    if out is None:
        change()
        print(f"user name  {flags.name}\npassword   {password}")
        print("The password is shown only now; it cannot be read again.")
        return
    write_secret(out, password + "\n")
    try:
        change()
    except BaseException:
        out.unlink()
        raise
