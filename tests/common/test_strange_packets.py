"""The link against hostile properties that a broker passes on, and against packets that no broker sends."""

import asyncio
import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from benchmarks.fuzz.flood import connect, packet, publish
from benchmarks.fuzz.properties import HOSTILE_PROPERTIES, REFUSED_PROPERTIES
from common.link import Delivery, Link, LinkSettings, Received
from common.link.packets import MalformedPacketError, PublishPacket, publish_size, read_publish
from evaluation.local.broker import LocalBroker
from tests.support.packet_counter import PacketCounter, read_packet

PATIENCE = 10.0
TOPIC = "hlm/v1/demo/open/attacker/s"
CONNACK, SUBACK = b"\x20\x03\x00\x00\x00", b"\x90\x04%b\x00\x01"


async def next_of(link: Link) -> Received:
    async with asyncio.timeout(PATIENCE):
        return await link.receive()


# -- properties that a broker passes on ----------------------------------------------------------------


@pytest.mark.parametrize("qos", [0, 1])
def test_no_property_of_a_stranger_ends_the_connection_and_all_bytes_are_counted(
    broker: LocalBroker, qos: int
) -> None:
    async def scenario() -> None:
        async with (
            PacketCounter(broker.port) as counter,
            Link(LinkSettings(counter.url), subscriptions=["hlm/#", "end"]) as link,
            Link(LinkSettings(broker.url)) as friend,
        ):
            with connect(broker.port) as stranger:
                for number, properties in enumerate(HOSTILE_PROPERTIES):
                    stranger.sendall(publish(TOPIC.encode(), b"%d" % number, properties, qos=qos))
                for number in range(len(HOSTILE_PROPERTIES)):
                    assert await next_of(link) == Received(TOPIC, b"%d" % number)
            assert await friend.send("end", b"good", qos=1) is Delivery.SENT
            assert (await next_of(link)).payload == b"good"
            assert link.statistics.num_connects == 1
            assert link.statistics.num_messages_down == len(HOSTILE_PROPERTIES) + 1
            assert link.statistics.num_bytes_down == counter.num_bytes_down

    asyncio.run(scenario())


def test_a_message_with_strange_properties_is_acknowledged(broker: LocalBroker) -> None:
    """mosquitto sends at most 20 messages of QoS 1 before it has their PUBACKs."""

    async def scenario() -> None:
        async with Link(LinkSettings(broker.url), subscriptions=[TOPIC]) as link:
            with connect(broker.port) as stranger:
                for number in range(100):
                    properties = HOSTILE_PROPERTIES[number % len(HOSTILE_PROPERTIES)]
                    stranger.sendall(publish(TOPIC.encode(), b"%d" % number, properties, qos=1))
                    assert (await next_of(link)).payload == b"%d" % number

    asyncio.run(scenario())


@pytest.mark.parametrize("properties", REFUSED_PROPERTIES)
def test_the_broker_hangs_up_on_properties_that_break_the_protocol(
    broker: LocalBroker, properties: bytes
) -> None:
    async def scenario() -> None:
        async with Link(LinkSettings(broker.url), subscriptions=[TOPIC]) as link:
            with connect(broker.port) as stranger:
                stranger.sendall(publish(TOPIC.encode(), b"bad", properties))
                stranger.settimeout(PATIENCE)
                await asyncio.to_thread(until_closed, stranger)
            await link.send(TOPIC, b"good")
            assert (await next_of(link)).payload == b"good"

    asyncio.run(scenario())


def until_closed(sock: socket.socket) -> None:
    try:
        while sock.recv(4096):
            pass
    except ConnectionError:
        pass


# -- packets that no broker sends ----------------------------------------------------------------------

BROKEN = {
    "a topic that is not UTF-8": publish(b"a\xff\xfe", b"x"),
    "a topic beyond the end": packet(0x30, b"\xff\xffa"),
    "half a topic length": packet(0x30, b"\0"),
    "nothing at all": packet(0x30, b""),
    "no properties": packet(0x30, b"\0\1a"),
    "properties beyond the end": packet(0x30, b"\0\1a\5\1"),
    "a length without an end": packet(0x30, b"\0\1a\xff\xff\xff\xff\x7f"),
    "QoS 1 without a number": packet(0x32, b"\0\1a\0"),
    "QoS 2": packet(0x34, b"\0\1a\0\1\0x"),
    "QoS 3": packet(0x36, b"\0\1a\0\1\0x"),
}


@asynccontextmanager
async def broker_that_sends(data: bytes) -> AsyncGenerator[str]:
    """The address of a server that accepts connections and a subscription, sends `data`, and then nothing."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_packet(reader)
        writer.write(CONNACK)
        subscribe = await read_packet(reader)
        writer.write(SUBACK % subscribe[2:4])
        await asyncio.sleep(0.1)
        writer.write(data)
        while await read_packet(reader):
            pass
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"mqtt://127.0.0.1:{server.sockets[0].getsockname()[1]}"


@pytest.mark.parametrize("what", BROKEN)
def test_a_broker_that_breaks_the_protocol_is_left(what: str) -> None:
    async def scenario() -> None:
        states: list[bool] = []
        async with (
            broker_that_sends(BROKEN[what]) as url,
            Link(LinkSettings(url), subscriptions=["a"], on_state=states.append) as link,
        ):
            async with asyncio.timeout(PATIENCE):
                while len(states) < 2:
                    await asyncio.sleep(0.01)
            assert states[:2] == [True, False]
            assert link.statistics.num_messages_down == 0

    asyncio.run(scenario())


@given(
    topic=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=300),
    payload=st.binary(max_size=300),
    properties=st.binary(max_size=300),
    mid=st.none() | st.integers(1, 65535),
)
def test_a_packet_is_read_whatever_its_properties_are(
    topic: str, payload: bytes, properties: bytes, mid: int | None
) -> None:
    sent = publish(topic.encode(), payload, properties, qos=int(mid is not None), mid=mid or 0)
    size = len(sent)
    num_digits = 1 + (size > 129) + (size > 16_386)
    assert read_publish(sent[0], sent[1 + num_digits :]) == PublishPacket(topic, payload, mid)
    prefix = 1 + (len(properties) > 127)
    assert publish_size(topic, payload, prefix + len(properties), int(mid is not None)) == size


@given(first_byte=st.integers(0x30, 0x3F), body=st.binary(max_size=40))
def test_any_bytes_are_read_or_refused(first_byte: int, body: bytes) -> None:
    try:
        read = read_publish(first_byte, bytearray(body))
    except MalformedPacketError:
        return
    assert len(read.payload) + len(read.topic.encode()) < len(body)


def test_properties_that_paho_writes_are_skipped_too() -> None:
    properties = Properties(PacketTypes.PUBLISH)
    properties.ContentType = "application/cbor"
    properties.UserProperty = ("a", "b" * 200)
    body = b"\0\1a" + properties.pack() + b"payload"
    assert read_publish(0x30, body) == PublishPacket("a", b"payload", None)
