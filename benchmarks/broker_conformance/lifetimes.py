"""How long messages and sessions live, and what is retained."""

import time

from benchmarks.broker_conformance.client import Client
from benchmarks.broker_conformance.needs import Broker, Finding

SHORT = 1  # seconds: the shortest expiry that there is
LONG = 60


def forgets_sessions(broker: Broker) -> Finding:
    """A session ends with its connection where no expiry is given: nothing waits for the next one."""
    topic = f"{broker.root}/forget"
    with Client(broker.settings) as sender:
        with Client(broker.settings) as first:
            first.subscribe(topic)
        sender.publish(topic)
        with Client(broker.settings, first.name, clean=False) as second:
            num_waiting = len(second.rest())
            return Finding(not second.has_session and num_waiting == 0)


def keeps_sessions(broker: Broker) -> Finding:
    """A session with an expiry is there after a reconnect, with what was sent meanwhile."""
    topic = f"{broker.root}/keep"
    with Client(broker.settings) as sender:
        with Client(broker.settings, session_expiry=LONG) as first:
            first.subscribe(topic)
        sender.publish(topic)
        with Client(broker.settings, first.name, clean=False) as second:
            return Finding(second.has_session and len(second.take(1)) == 1)


def expires_sessions(broker: Broker) -> Finding:
    """A session is gone when its expiry is over."""
    with Client(broker.settings, clean=False, session_expiry=SHORT) as first:
        first.subscribe(f"{broker.root}/gone")
    time.sleep(2 * SHORT + 0.5)
    with Client(broker.settings, first.name, clean=False) as second:
        return Finding(not second.has_session)


def expires_messages(broker: Broker) -> Finding:
    """Of two messages that wait for a client, the one whose expiry is over is not delivered."""
    topic = f"{broker.root}/stale"
    with Client(broker.settings) as sender:
        with Client(broker.settings, clean=False, session_expiry=LONG) as first:
            first.subscribe(topic)
        sender.publish(topic, b"stale", MessageExpiryInterval=SHORT)
        sender.publish(topic, b"fresh", MessageExpiryInterval=LONG)
        time.sleep(2 * SHORT + 0.5)
        with Client(broker.settings, first.name, clean=False) as second:
            arrived = [message.payload for message in second.take(1)]
    if not arrived:
        return Finding(None, "not tried: no session waits for messages")
    return Finding(arrived == [b"fresh"])


def retains(broker: Broker) -> Finding:
    """A later subscriber gets the last retained message, marked as such."""
    topic = f"{broker.root}/retained"
    with Client(broker.settings) as sender:
        sender.publish(topic, b"old", retain=True)
        sender.publish(topic, b"new", retain=True)
        found = _retained(broker, topic)
        sender.publish(topic, retain=True)
    return Finding(found == [b"new"])


def clears_retained(broker: Broker) -> Finding:
    """An empty payload removes it."""
    topic = f"{broker.root}/cleared"
    with Client(broker.settings) as sender:
        sender.publish(topic, b"old", retain=True)
        sender.publish(topic, retain=True)
        return Finding(_retained(broker, topic) == [])


def expires_retained(broker: Broker) -> Finding:
    """A retained message with an expiry is gone when it is over."""
    topic = f"{broker.root}/fading"
    with Client(broker.settings) as sender:
        sender.publish(topic, b"old", retain=True, MessageExpiryInterval=SHORT)
        time.sleep(2 * SHORT + 0.5)
        found = _retained(broker, topic)
        sender.publish(topic, retain=True)
    return Finding(found == [])


def honours_retain_handling(broker: Broker) -> Finding:
    """With retain handling 2 a subscription brings no retained message, only what comes later."""
    topic = f"{broker.root}/handling"
    with Client(broker.settings) as sender, Client(broker.settings) as reader:
        sender.publish(topic, b"old", retain=True)
        reader.subscribe(topic, retain_handling=2)
        sender.publish(topic, b"live")
        arrived = [message.payload for message in reader.take(1)]
        sender.publish(topic, retain=True)
    return Finding(arrived == [b"live"])


def marks_retained(broker: Broker) -> Finding:
    """A live message that was published as retained still says so (retain as published)."""
    topic = f"{broker.root}/marked"
    with Client(broker.settings) as sender, Client(broker.settings) as reader:
        reader.subscribe(topic)
        sender.publish(topic, b"status", retain=True)
        arrived = reader.take(1)
        sender.publish(topic, retain=True)
    return Finding([message.retain for message in arrived] == [True])


def _retained(broker: Broker, topic: str) -> list[bytes]:
    with Client(broker.settings) as reader:
        reader.subscribe(topic)
        return [bytes(message.payload) for message in reader.rest() if message.retain]
