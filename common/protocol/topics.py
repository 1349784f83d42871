"""Every topic name of the protocol, written and parsed in one place.

Law: names from the configuration or from a message enter a topic only through `check_name`, so no id can
contain a wildcard or add a level. The longest topic has 6 slashes and stays below 256 bytes, the longest
subscription has 7: every large broker service accepts that (docs/protocol.md, "Topics").
"""

import re
from dataclasses import dataclass
from typing import Literal, NamedTuple

DEFAULT_ROOT = "hlm/v1"
MAX_ROOT_LEVELS = 2
MAX_NAME_LENGTH = 32

ASK, CANCEL, SET = FROM_APPS = ("ask", "cancel", "set")  # the topics of apps below one device
STATE, ANSWER, LAST, TOKEN, STATUS, STATS, EVENT = TO_APPS = (
    "state",
    "answer",
    "last",
    "token",
    "status",
    "stats",
    "event",
)
MAX_ASK_ID_LENGTH = 64

HOME_ASSISTANT = "homeassistant/#"  # its own tree, for discovery
HOME_ASSISTANT_STATUS = "homeassistant/status"  # it says "online" there when it has started

_ASK_ID = re.compile(rf"[A-Za-z0-9_-]{{1,{MAX_ASK_ID_LENGTH}}}", re.ASCII)
_NAME = re.compile(rf"[A-Za-z0-9_-]{{1,{MAX_NAME_LENGTH}}}", re.ASCII)
_RESERVED_POOLS = ("correction", "worker", "device", "app")  # the other branches below the root


class Uplink(NamedTuple):
    """Who sent a message to a worker, and by which of the two ways."""

    way: Literal["open", "draft"]
    device: str
    session: str


class Downlink(NamedTuple):
    """The session that a correction or refusal belongs to."""

    device: str
    session: str


class AppTopic(NamedTuple):
    """A topic of an IoT application below one device, split at its slashes."""

    device: str
    path: tuple[str, ...]


def is_name(text: str) -> bool:
    """Whether `text` can be one level of a topic."""
    return _NAME.fullmatch(text) is not None


def is_ask_id(text: str) -> bool:
    """Whether an app's id of an ask can be one level of a topic; longer than a name, so that UUIDs fit."""
    return _ASK_ID.fullmatch(text) is not None


def discovery(device: str) -> str:
    """Where a device describes itself to Home Assistant."""
    return f"homeassistant/device/hlm_{_device(device)}/config"


def check_name(name: str, what: str) -> str:
    """Return `name` if it can be one level of a topic; otherwise raise a ValueError that calls it `what`."""
    if not is_name(name):
        allowed = f"1 to {MAX_NAME_LENGTH} of the characters A-Za-z0-9_-"
        raise ValueError(f"{what} {name[:40]!r} is not a valid name: use {allowed}")
    return name


def check_pool(pool: str) -> str:
    """Return `pool` if it is a valid name and not that of another branch; otherwise raise a ValueError."""
    if pool in _RESERVED_POOLS:
        raise ValueError(f"a pool cannot be called {pool!r}: the topic tree uses that name, choose another")
    return check_name(pool, "pool")


@dataclass(frozen=True, slots=True)
class Topics:
    """The topic tree below `root` (one or two levels); a bad root or name is a ValueError."""

    root: str = DEFAULT_ROOT

    def __post_init__(self) -> None:
        levels = self.root.split("/")
        if len(levels) > MAX_ROOT_LEVELS:
            raise ValueError(
                f"topic root {self.root[:80]!r} is too deep: use at most {MAX_ROOT_LEVELS} levels"
            )
        for level in levels:
            check_name(level, "level of the topic root")

    # -- device to worker ------------------------------------------------------------------------------

    def open(self, pool: str, device: str, session: str) -> str:
        """Where a device sends drafts with base 0: any worker of the pool may take the session."""
        return f"{self.root}/{check_pool(pool)}/open/{_address(device, session)}"

    def open_filter(self, pool: str) -> str:
        """The subscription that distributes the pool's open drafts over its workers."""
        return f"$share/{check_pool(pool)}/{self.root}/{pool}/open/+/+"

    def draft(self, pool: str, worker: str, device: str, session: str) -> str:
        """Where a device sends later drafts: to the worker that holds the session."""
        return f"{self.root}/{check_pool(pool)}/draft/{_worker(worker)}/{_address(device, session)}"

    def draft_filter(self, pool: str, worker: str) -> str:
        """The subscription of one worker to the drafts of its own sessions."""
        return f"{self.root}/{check_pool(pool)}/draft/{_worker(worker)}/+/+"

    def uplink_filters(self, pool: str, device: str) -> tuple[str, str]:
        """Everything that one device may send to the workers of a pool: the topics of `open` and `draft`."""
        return (
            f"{self.root}/{check_pool(pool)}/open/{_device(device)}/+",
            f"{self.root}/{pool}/draft/+/{device}/+",
        )

    def parse_uplink(self, topic: str) -> Uplink:
        """Parse a topic that `open` or `draft` made; ValueError for any other."""
        match self._levels(topic):
            case [_, "open", device, session]:
                return Uplink("open", _device(device), _session(session))
            case [_, "draft", _, device, session]:
                return Uplink("draft", _device(device), _session(session))
            case _:
                raise ValueError(f"topic {topic[:80]!r} is not one that a worker reads")

    # -- worker to device ------------------------------------------------------------------------------

    def correction(self, device: str, session: str) -> str:
        """Where a worker sends its answers: corrections and refusals."""
        return f"{self.root}/correction/{_address(device, session)}"

    def correction_filter(self, device: str) -> str:
        """The subscription of one device to the answers for all its sessions."""
        return f"{self.root}/correction/{_device(device)}/+"

    def all_corrections_filter(self) -> str:
        """Everywhere that a worker may answer: its sessions can belong to any device."""
        return f"{self.root}/correction/+/+"

    def parse_correction(self, topic: str) -> Downlink:
        """Parse a topic that `correction` made; ValueError for any other."""
        match self._levels(topic):
            case ["correction", device, session]:
                return Downlink(_device(device), _session(session))
            case _:
                raise ValueError(f"topic {topic[:80]!r} is not one that a device reads corrections from")

    # -- presence, and the applications of a device ----------------------------------------------------

    def worker(self, worker: str) -> str:
        """The retained status of one worker; its last will marks it as gone."""
        return f"{self.root}/worker/{_worker(worker)}"

    def worker_filter(self) -> str:
        """The subscription to the status of every worker."""
        return f"{self.root}/worker/+"

    def parse_worker(self, topic: str) -> str:
        """The worker whose status topic this is; ValueError for any other topic."""
        match self._levels(topic):
            case ["worker", worker]:
                return _worker(worker)
            case _:
                raise ValueError(f"topic {topic[:80]!r} is not the status of a worker")

    def device(self, device: str) -> str:
        """The retained status of one device; its last will marks it as gone."""
        return f"{self.root}/device/{_device(device)}"

    def device_filter(self) -> str:
        """The subscription to the status of every device."""
        return f"{self.root}/device/+"

    def app(self, device: str, *path: str) -> str:
        """A topic of the device's apps (JSON); at most two levels below the device."""
        if not 1 <= len(path) <= 2:
            raise ValueError("an application topic has one or two levels below the device")
        levels = [check_name(level, "level of an application topic") for level in path]
        return "/".join([self.root, "app", _device(device), *levels])

    def app_filter(self, device: str) -> str:
        """Everything that the apps of a device and the device itself exchange."""
        return f"{self.root}/app/{_device(device)}/#"

    def from_apps(self, device: str) -> tuple[str, ...]:
        """What apps send to a device, which subscribes to exactly these."""
        return tuple(self.app(device, name) for name in FROM_APPS)

    def app_token(self, device: str, ask: str) -> str:
        """Where the tokens of one answer go; `ask` is the id that the app gave it."""
        if not is_ask_id(ask):
            raise ValueError(f"id {ask[:80]!r} cannot be part of a topic")
        return f"{self.app(device, TOKEN)}/{ask}"

    def takes_reply(self, device: str, topic: str) -> bool:
        """Whether an app may ask for its answer on this topic: in the device's tree, and free there."""
        prefix = f"{self.root}/app/{_device(device)}/"
        path = topic.removeprefix(prefix).split("/") if topic.startswith(prefix) else []
        if not 1 <= len(path) <= 2 or not all(is_name(level) for level in path):
            return False
        return path == [ANSWER] or path[0] not in (*FROM_APPS, *TO_APPS)

    def parse_app(self, topic: str) -> AppTopic:
        """Parse a topic that `app` made; ValueError for any other."""
        match self._levels(topic):
            case ["app", device, *path] if 1 <= len(path) <= 2:
                levels = tuple(check_name(level, "level of an application topic") for level in path)
                return AppTopic(_device(device), levels)
            case _:
                raise ValueError(f"topic {topic[:80]!r} is not an application topic")

    def _levels(self, topic: str) -> list[str]:
        prefix = self.root + "/"
        return topic.removeprefix(prefix).split("/") if topic.startswith(prefix) else []


def _device(device: str) -> str:
    return check_name(device, "device")


def _session(session: str) -> str:
    return check_name(session, "session")


def _worker(worker: str) -> str:
    return check_name(worker, "worker")


def _address(device: str, session: str) -> str:
    return f"{_device(device)}/{_session(session)}"
