"""How a connection ends: wills, clients that fall silent, and two clients with one name."""

from benchmarks.broker_conformance.client import NO_REASON, Client, Will
from benchmarks.broker_conformance.needs import Broker, Finding
from common.link.explain import SESSION_TAKEN_OVER

KEEPALIVE = 2  # seconds: a silent client is gone after one and a half times this
WITH_WILL = "Disconnect with will message"


def publishes_a_will(broker: Broker) -> Finding:
    """The will of a client that dies is published and retained."""
    topic = f"{broker.root}/will"
    with Client(broker.settings) as watcher:
        watcher.subscribe(topic)
        with Client(broker.settings, will=Will(topic, retain=True)) as dying:
            dying.die()
            arrived = watcher.take(1)
        with Client(broker.settings) as later:
            later.subscribe(topic)
            kept = later.take(1)
        watcher.publish(topic, retain=True)
    return Finding([one.payload for one in (*arrived, *kept)] == [b"gone"] * 2)


def publishes_a_will_on_request(broker: Broker) -> Finding:
    """DISCONNECT with reason 0x04 publishes the will too: so a worker that stops is shown as offline."""
    topic = f"{broker.root}/parting"
    with Client(broker.settings) as watcher:
        watcher.subscribe(topic)
        with Client(broker.settings, will=Will(topic)) as leaving:
            leaving.leave(WITH_WILL)
            return Finding(len(watcher.take(1)) == 1)


def drops_a_will(broker: Broker) -> Finding:
    """An ordinary DISCONNECT drops the will."""
    topic = f"{broker.root}/dropped"
    with Client(broker.settings) as watcher:
        watcher.subscribe(topic)
        with Client(broker.settings, will=Will(topic)):
            pass
        return Finding(watcher.rest() == [])


def notices_silence(broker: Broker) -> Finding:
    """A client that sends nothing for one and a half keepalives counts as dead."""
    topic = f"{broker.root}/silent"
    with Client(broker.settings) as watcher:
        watcher.subscribe(topic)
        with Client(broker.settings, will=Will(topic), keepalive=KEEPALIVE) as silent:
            silent.fall_silent()
            return Finding(len(watcher.take(1)) == 1)


def gives_one_name_to_one_client(broker: Broker) -> Finding:
    """A second connection with a client id ends the first; reason 0x8E says why."""
    with Client(broker.settings) as first, Client(broker.settings, first.name):
        try:
            code = first.ended.get(timeout=5.0)
        except LookupError:
            return Finding(False, "both stay connected")
    reasons = {SESSION_TAKEN_OVER: "", NO_REASON: "without a reason"}
    return Finding(True, reasons.get(code, f"with reason 0x{code:02X}"))
