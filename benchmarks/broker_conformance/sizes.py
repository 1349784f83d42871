"""What a message may be: its topic, its size, its properties, its order; and how long it takes."""

import statistics
import time

from benchmarks.broker_conformance.client import Client, NoAnswerError
from benchmarks.broker_conformance.needs import Broker, Finding
from common.protocol.limits import MAX_PAYLOAD_BYTES
from common.protocol.topics import Topics

SIZES = {  # bytes of a payload: what needs it
    8 * 1024: "a prompt of 4,000 tokens",
    64_029: "HLM, 32,000 ids",
    128 * 1024: "what AWS IoT Core takes",
    303_900: "HLM, 151,936 ids",
    MAX_PAYLOAD_BYTES: "the largest payload",
}
LONGEST = 32 * "n"  # a name of the greatest length
NUM_ORDERED = 200
NUM_ECHOES = 200
ECHO_BYTES = 200


def takes_long_topics(broker: Broker) -> Finding:
    """Our longest topic, with every name as long as it may be."""
    topic = Topics(f"{LONGEST}/{LONGEST}").draft(LONGEST, LONGEST, LONGEST, LONGEST)
    below = topic.split("/", 2)[2]
    topic = f"{broker.root}/{below}".ljust(len(topic), "n")  # below the root that this account may use
    with Client(broker.settings) as reader, Client(broker.settings) as sender:
        reader.subscribe(topic.rpartition("/")[0] + "/+")
        sender.publish(topic)
        return Finding(len(reader.take(1)) == 1, f"{len(topic)} bytes")


def takes_large_payloads(broker: Broker) -> Finding:
    """Every size up to the largest payload, whole; the detail is the largest that arrived."""
    largest, limit = 0, 0
    for size in SIZES:
        payload, topic = bytes(range(256)) * (size // 256) + bytes(size % 256), f"{broker.root}/size/{size}"
        try:
            with Client(broker.settings) as reader, Client(broker.settings) as sender:
                limit = sender.limits.max_packet_size
                if size + len(topic) + 16 > limit:  # it would end the connection
                    break
                reader.subscribe(topic)
                sender.publish(topic, payload)
                arrived = reader.receive()
        except NoAnswerError:
            break
        if arrived is None or arrived.payload != payload:
            break
        largest = size
    return Finding(largest == MAX_PAYLOAD_BYTES, f"{largest:,} bytes" if largest else "not even a prompt")


def knows_aliases(broker: Broker) -> Finding:
    """A number in place of a topic, from the second message on."""
    topic = f"{broker.root}/alias"
    with Client(broker.settings) as reader, Client(broker.settings) as sender:
        if not sender.limits.max_aliases:
            return Finding(False)
        reader.subscribe(topic)
        sender.publish(topic, b"1", TopicAlias=1)
        sender.publish("", b"2", TopicAlias=1)
        arrived = [message.topic for message in reader.take(2)]
        return Finding(arrived == [topic, topic], f"{sender.limits.max_aliases:,} per client")


def passes_properties(broker: Broker) -> Finding:
    """Response topic, correlation data and user properties arrive as they were sent."""
    topic = f"{broker.root}/properties"
    response, correlation, user = "a/b", b"\x00\x01", [("key", "value")]
    with Client(broker.settings) as reader, Client(broker.settings) as sender:
        reader.subscribe(topic)
        sender.publish(topic, ResponseTopic=response, CorrelationData=correlation, UserProperty=user)
        arrived = [vars(message.properties) for message in reader.take(1)]
    names = ("ResponseTopic", "CorrelationData", "UserProperty")
    return Finding([[one.get(name) for name in names] for one in arrived] == [[response, correlation, user]])


def keeps_the_order(broker: Broker) -> Finding:
    """Messages of QoS 0 on one topic arrive in order; none is lost while the line holds."""
    topic = f"{broker.root}/order"
    with Client(broker.settings) as reader, Client(broker.settings) as sender:
        reader.subscribe(topic)
        for number in range(NUM_ORDERED):
            sender.publish(topic, str(number).encode(), qos=0)
        arrived = [int(message.payload) for message in reader.take(NUM_ORDERED)]
    num_lost = NUM_ORDERED - len(set(arrived))
    return Finding(arrived == list(range(NUM_ORDERED)), f"{num_lost} lost" if num_lost else "")


def echoes(broker: Broker) -> Finding:
    """The time of 200 bytes to another client and back, median and 99th percentile."""
    return _echoes(broker, "echo", qos=0)


def echoes_acknowledged(broker: Broker) -> Finding:
    """The same for a message of QoS 1, as the first draft of each answer is.

    With Nagle's algorithm a broker sends its PUBACK, then holds the answer until that is acknowledged.
    """
    return _echoes(broker, "echo1", qos=1)


def _echoes(broker: Broker, name: str, *, qos: int) -> Finding:
    there, back = f"{broker.root}/{name}", f"{broker.root}/{name}-back"
    times: list[float] = []
    with Client(broker.settings, echo_to=back) as worker, Client(broker.settings) as device:
        worker.subscribe(there)
        device.subscribe(back)
        for _ in range(NUM_ECHOES):
            began = time.perf_counter()
            device.publish(there, bytes(ECHO_BYTES), qos=qos)
            if device.receive() is None:
                return Finding(None, "no answer")
            times.append(time.perf_counter() - began)
    cuts = statistics.quantiles(times, n=100)
    return Finding(None, f"{1e3 * cuts[49]:.1f} ms, {1e3 * cuts[98]:.1f} ms")
