"""The commands; `flags` are those of __main__.py.

Law: a password is generated here, shown once, and never passed as an argument.
"""

import json
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import cast

from common.link import LinkError
from common.process.log import printable
from common.protocol.topics import MAX_NAME_LENGTH, Topics, check_name
from mosquitto.provisioning import ProvisionError
from mosquitto.provisioning.access import Account, Kind
from mosquitto.provisioning.accounts_file import Accounts, AccountsFile
from mosquitto.provisioning.certificates import certify_client, certify_server, make_authority
from mosquitto.provisioning.changes import change, check_login, client_of, with_control
from mosquitto.provisioning.configuration import configuration
from mosquitto.provisioning.control import Control, check
from mosquitto.provisioning.folder import Folder, write_secret
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
    write_secret(folder.state, json.dumps(initial_state(password, topics), indent=1), for_broker=True)
    print(f"{folder.state}: the accounts; the administrator's password is in {folder.password}")
    if not folder.certificate.exists():
        print(f"{folder.certificate} is missing: run `provision certificates --host NAME`")
    print(f"start the broker: mosquitto -c {folder.configuration}")


def restore(flags: Namespace) -> None:
    """Put the last good copy of the accounts in place of the broker's file."""
    folder = Folder(flags.folder)
    with folder.alone():
        accounts = AccountsFile(folder).restore()
    print(f"{folder.state}: {len(accounts.clients)} accounts, from {folder.copy}")
    print("restart the broker, which reads them only then: systemctl restart mosquitto")


# -- with a running broker -----------------------------------------------------------------------------


def add(flags: Namespace) -> None:
    """Create an account with the rights of its kind."""
    account = Account(
        Kind(flags.kind), flags.name, tuple(flags.pool), tuple(flags.device), flags.home_assistant
    )
    if account.name == ADMIN:
        raise ValueError(f"{ADMIN} is the administrator's name: choose another")
    topics, password, role = Topics(flags.root), new_password(), role_name(account)
    rights = grant(account, topics)
    num_rules = len(cast("list[Json]", rights[0]["acls"]))

    async def create(control: Control) -> None:
        (answer,) = await control.attempt(create_client(account, password))
        if answer.get("error") == "Client already exists":
            raise ProvisionError(f"account {account.name} already exists: remove it or choose another name")
        check(answer)
        await control.attempt({"command": "deleteRole", "rolename": role})  # a former account's
        await control.do(*rights)
        held = cast("list[Json]", (await client_of(control, account.name)).get("roles", []))
        if role not in [one["rolename"] for one in held]:
            raise ProvisionError(f"account {account.name} has no rights: remove it, and add it again")

    async def undo(control: Control) -> None:
        await control.do({"command": "deleteClient", "username": account.name})
        await control.do({"command": "deleteRole", "rolename": role})

    def is_done(accounts: Accounts) -> bool:
        return accounts.takes(account.name, password) and accounts.has_role(account.name, role, num_rules)

    _hand_over(flags, password, lambda: change(flags, create, is_done, undo=undo))
    print(f"{account.name}: {describe(account)}")


def remove(flags: Namespace) -> None:
    """Delete an account with its rights, its connection and its status."""
    name = check_name(flags.name, "account")
    if name == ADMIN:
        raise ValueError(f"{ADMIN} cannot be removed: it is needed to manage accounts")
    topics = Topics(flags.root)

    async def delete(control: Control) -> None:
        client = await client_of(control, name)
        await control.do({"command": "deleteClient", "username": name})
        roles = [role["rolename"] for role in cast("list[Json]", client.get("roles", []))]
        await control.attempt(*({"command": "deleteRole", "rolename": role} for role in roles))
        await control.clear([topics.device(name), topics.worker(name)])
        (answer,) = await control.attempt({"command": "getClient", "username": name})
        if "error" not in answer:
            raise ProvisionError(f"the broker still has account {name}: repeat the command")

    left = f"{name} is removed, but only until the broker restarts"
    change(flags, delete, lambda accounts: name not in accounts.clients, left=left)
    print(f"account {name} is removed")


def rotate(flags: Namespace) -> None:
    """Give an account a new password."""
    name, password = check_name(flags.name, "account"), new_password()
    if name == ADMIN:
        _rotate_admin(flags, password)
        return

    async def set_new(control: Control) -> None:
        await client_of(control, name)
        await control.do(set_password(name, password))  # which also ends the connection

    def run() -> None:
        left = f"{name} has an unknown password until the broker restarts, and then its old one"
        change(flags, set_new, lambda accounts: accounts.takes(name, password), left=left)
        check_login(flags, name, password)

    _hand_over(flags, password, run)


def _rotate_admin(flags: Namespace, password: str) -> None:
    """The broker disconnects us before it answers, so a login with the new password is the check."""
    folder = Folder(flags.folder)
    if flags.out is not None:
        raise ValueError(f"the administrator's password stays in {folder.password}: leave out --out")
    old = folder.read_password()
    pending = folder.password.with_name("password.pending")
    write_secret(pending, password + "\n", replace=True)

    async def set_new(control: Control) -> None:
        await control.send(set_password(ADMIN, password))

    async def set_old(control: Control) -> None:
        await control.send(set_password(ADMIN, old))

    try:
        change(
            flags,
            set_new,
            lambda accounts: accounts.takes(ADMIN, password),
            undo=set_old,
            password=password,
        )
        check_login(flags, ADMIN, password)
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
            line = f"{client['username']:<{MAX_NAME_LENGTH}}  {client.get('textdescription', '')}"
            print(printable(line))

    with Folder(flags.folder).alone():
        with_control(flags, list_all)


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
