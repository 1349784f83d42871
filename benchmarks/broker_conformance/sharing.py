"""Shared subscriptions, which deal sessions to the workers of a pool, and what happens as workers leave."""

from collections import Counter

from benchmarks.broker_conformance.client import PATIENCE, Client, Will
from benchmarks.broker_conformance.needs import Broker, Finding
from common.link.values import NO_MATCHING_SUBSCRIBERS

NUM_MESSAGES = 30


def deals_to_members(broker: Broker) -> Finding:
    """Each message goes to exactly one of three members, and each member gets some."""
    topic, pattern = f"{broker.root}/deal/open", f"$share/pool/{broker.root}/deal/+"
    with (
        Client(broker.settings) as sender,
        Client(broker.settings) as one,
        Client(broker.settings) as two,
        Client(broker.settings) as three,
    ):
        members = (one, two, three)
        for member in members:
            member.subscribe(pattern)
        for number in range(NUM_MESSAGES):
            sender.publish(topic, str(number).encode())
        shares = [[bytes(message.payload) for message in member.rest()] for member in members]
    counts = Counter(payload for share in shares for payload in share)
    is_exact = len(counts) == NUM_MESSAGES and set(counts.values()) == {1}
    return Finding(is_exact and all(shares), "/".join(str(len(share)) for share in shares))


def survives_death(broker: Broker) -> Finding:
    """Once a member's death is known, by its will, all messages go to the one that is left."""
    return _survives(broker, "death", dies=True)


def survives_unsubscribe(broker: Broker) -> Finding:
    """Once an UNSUBSCRIBE is confirmed, all messages go to the member that is left."""
    return _survives(broker, "leave", dies=False)


def _survives(broker: Broker, name: str, *, dies: bool) -> Finding:
    topic, pattern = f"{broker.root}/{name}/open", f"$share/pool/{broker.root}/{name}/+"
    gone = f"{broker.root}/{name}-gone"
    with (
        Client(broker.settings) as sender,
        Client(broker.settings) as staying,
        Client(broker.settings, will=Will(gone)) as leaving,
    ):
        sender.subscribe(gone)
        staying.subscribe(pattern)
        leaving.subscribe(pattern)
        if dies:
            leaving.die()
            if sender.receive(PATIENCE) is None:
                return Finding(False, "the death was not noticed")
        else:
            leaving.unsubscribe(pattern)
        for number in range(NUM_MESSAGES):
            sender.publish(topic, str(number).encode())
        num_arrived = len({bytes(message.payload) for message in staying.take(NUM_MESSAGES)})
    return Finding(num_arrived == NUM_MESSAGES, f"{num_arrived} of {NUM_MESSAGES}")


def reports_an_empty_pool(broker: Broker) -> Finding:
    """PUBACK 0x10 where no one subscribes, and again after the last member has unsubscribed."""
    topic, pattern = f"{broker.root}/empty/open", f"$share/pool/{broker.root}/empty/+"
    with Client(broker.settings) as sender, Client(broker.settings) as member:
        before = sender.publish(topic)
        member.subscribe(pattern)
        during = sender.publish(topic)
        member.unsubscribe(pattern)
        after = sender.publish(topic)
    expected = (NO_MATCHING_SUBSCRIBERS, 0, NO_MATCHING_SUBSCRIBERS)
    return Finding((before, during, after) == expected, f"0x{before:02X}, 0x{during:02X}, 0x{after:02X}")
