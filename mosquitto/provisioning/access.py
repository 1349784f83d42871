"""Who may send and read what: the rules of every kind of account at the broker.

Law: what no rule allows is refused, both reading and sending, and no account can send in another's name. This
module knows no broker; the others here put its rules into one.
"""

from dataclasses import dataclass
from enum import Enum

from common.protocol.topics import (
    HOME_ASSISTANT,
    HOME_ASSISTANT_STATUS,
    Topics,
    check_name,
    check_pool,
    discovery,
)

STATISTICS = "$SYS/#"  # the broker's statistics


class Kind(Enum):
    """What an account is for."""

    DEVICE = "device"
    WORKER = "worker"
    APP = "app"
    OPERATOR = "operator"


@dataclass(frozen=True, slots=True)
class Account:
    """One user of the broker. `pools` for a device (one or more) and a worker (one), `devices` for an app.

    With `home_assistant`, a device may describe itself to Home Assistant, and an app is Home Assistant.
    """

    kind: Kind
    name: str
    pools: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()
    home_assistant: bool = False

    def __post_init__(self) -> None:
        """ValueError for a name that cannot be in a topic, and for too few or too many pools or devices."""
        check_name(self.name, self.kind.value)
        for pool in self.pools:
            check_pool(pool)
        for device in self.devices:
            check_name(device, "device")
        wants_pools = self.kind in (Kind.DEVICE, Kind.WORKER)
        if wants_pools != bool(self.pools) or (self.kind is Kind.WORKER and len(self.pools) > 1):
            number = {Kind.DEVICE: "at least one pool", Kind.WORKER: "one pool"}.get(self.kind, "no pool")
            raise ValueError(f"{self.kind.value} {self.name} needs {number}, got {len(self.pools)}")
        if (self.kind is Kind.APP) != bool(self.devices):
            number = "at least one device" if self.kind is Kind.APP else "no list of devices"
            raise ValueError(f"{self.kind.value} {self.name} needs {number}, got {len(self.devices)}")
        if self.home_assistant and self.kind not in (Kind.DEVICE, Kind.APP):
            raise ValueError(f"{self.kind.value} {self.name} has nothing to do with Home Assistant")


@dataclass(frozen=True, slots=True)
class Rules:
    """Topic filters: publishing is allowed to `send`, subscribing to `read` and to any part of it.

    The subscriptions in `subscribe` are allowed only letter for letter: our programs make exactly these.
    Of what `read` allows, the topics in `withheld` are not delivered.
    """

    send: tuple[str, ...] = ()
    subscribe: tuple[str, ...] = ()
    read: tuple[str, ...] = ()
    withheld: tuple[str, ...] = ()


def rules(account: Account, topics: Topics) -> Rules:
    """Everything that an account may do."""
    name = account.name
    match account.kind:
        case Kind.DEVICE:
            uplinks = [one for pool in account.pools for one in topics.uplink_filters(pool, name)]
            return Rules(
                send=(
                    *uplinks,
                    topics.device(name),
                    topics.app_filter(name),
                    *((discovery(name),) if account.home_assistant else ()),
                ),
                subscribe=(
                    topics.correction_filter(name),
                    *topics.from_apps(name),
                    *((HOME_ASSISTANT_STATUS,) if account.home_assistant else ()),
                ),
            )
        case Kind.WORKER:
            (pool,) = account.pools
            return Rules(
                send=(topics.all_corrections_filter(), topics.worker(name)),
                subscribe=(topics.open_filter(pool), topics.draft_filter(pool, name)),
            )
        case Kind.APP:
            asks = tuple(one for device in account.devices for one in topics.from_apps(device))
            whole = (HOME_ASSISTANT,) if account.home_assistant else ()
            return Rules(
                send=(*asks, *whole),
                read=(
                    *(topics.app_filter(device) for device in account.devices),
                    *(topics.device(device) for device in account.devices),
                    *whole,
                ),
                withheld=asks,
            )
        case Kind.OPERATOR:
            return Rules(read=(topics.worker_filter(), topics.device_filter(), STATISTICS))


def without_share(subscription: str) -> str:
    """The topics that a subscription delivers: the subscription without `$share/GROUP/`."""
    return subscription.split("/", 2)[2] if subscription.startswith("$share/") else subscription
