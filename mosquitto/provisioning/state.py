"""The state of mosquitto's plugin "dynamic security": clients, roles, and what is refused by default.

Law: no I/O, and nothing random except passwords and salts. Everything is refused unless a role allows it.
That includes receiving, so a subscription that outlives its right (CVE-2021-34434, mosquitto up to 2.0.11)
delivers nothing.
"""

import hashlib
import secrets
from base64 import b64encode
from typing import TypeAlias

from common.protocol.topics import Topics
from mosquitto.provisioning.access import Account, Rules, rules, without_share

Json: TypeAlias = dict[str, object]

ADMIN = "admin"
CONTROL = "$CONTROL/dynamic-security/v1"
RESPONSE = f"{CONTROL}/response"

# The plugin's own number, which it also uses for every password that is set while it runs. Low, but enough: a
# password of 192 random bits cannot be guessed, and a flood of wrong ones does not keep the broker busy.
ITERATIONS = 101
_SALT_BYTES = 12  # the length that mosquitto 2.0 takes
_PASSWORD_BYTES = 24


def new_password() -> str:
    """192 random bits, in characters that are special in no shell or file format."""
    return secrets.token_hex(_PASSWORD_BYTES)


def initial_state(password: str, topics: Topics) -> Json:
    """The plugin's file with one account: an administrator who manages accounts and reads no traffic."""
    salt = secrets.token_bytes(_SALT_BYTES)
    hashed = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, ITERATIONS)
    admin = {
        "username": ADMIN,
        "textdescription": "administrator of the accounts",
        "password": b64encode(hashed).decode(),
        "salt": b64encode(salt).decode(),
        "iterations": ITERATIONS,
        "roles": [{"rolename": ADMIN}],
    }
    # to clear the status of an account that is removed
    statuses = (topics.device_filter(), topics.worker_filter())
    role = {"rolename": ADMIN, "acls": _acls(Rules(send=(CONTROL, *statuses), subscribe=(RESPONSE,)))}
    default = {
        "publishClientSend": False,
        "publishClientReceive": False,
        "subscribe": False,
        "unsubscribe": True,
    }
    return {"defaultACLAccess": default, "clients": [admin], "groups": [], "roles": [role]}


def role_name(account: Account) -> str:
    """The role of an account. Each has its own, because mosquitto 2.0 has no rule for "the user's name"."""
    return f"{account.kind.value}-{account.name}"


def create_client(account: Account, password: str) -> Json:
    """The command that creates an account, without any rights."""
    return {
        "command": "createClient",
        "username": account.name,
        "password": password,
        "textdescription": describe(account),
    }


def set_password(name: str, password: str) -> Json:
    """The command that changes a password; the plugin also closes the account's connection."""
    return {"command": "setClientPassword", "username": name, "password": password}


def grant(account: Account, topics: Topics) -> list[Json]:
    """The commands that give an account its rights."""
    role = role_name(account)
    return [
        {"command": "createRole", "rolename": role, "acls": _acls(rules(account, topics))},
        {"command": "addClientRole", "username": account.name, "rolename": role, "priority": 0},
    ]


def describe(account: Account) -> str:
    """The account in words, as `list` shows it."""
    more = {"of pool": account.pools, "for": account.devices}
    parts = [f"{word} {', '.join(names)}" for word, names in more.items() if names]
    if account.home_assistant:
        parts.append("with Home Assistant")
    return " ".join([account.kind.value, *parts])


def _acls(allowed: Rules) -> list[Json]:
    received = dict.fromkeys(without_share(one) for one in (*allowed.subscribe, *allowed.read))
    withheld = [_acl("publishClientReceive", topic, allow=False) for topic in allowed.withheld]
    entries = [
        *(("publishClientSend", topic) for topic in allowed.send),
        *(("subscribeLiteral", topic) for topic in allowed.subscribe),
        *(("subscribePattern", topic) for topic in allowed.read),
        *(("publishClientReceive", topic) for topic in received),
    ]
    return [*withheld, *(_acl(kind, topic) for kind, topic in entries)]


def _acl(kind: str, topic: str, *, allow: bool = True) -> Json:
    """A rule; one that forbids goes before those that allow."""
    return {"acltype": kind, "topic": topic, "priority": 0 if allow else 1, "allow": allow}
