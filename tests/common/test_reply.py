"""Response topic and correlation data, read from properties that anyone may have written."""

from hypothesis import given
from hypothesis import strategies as st
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from common.link import ReplyTo, reply_to
from common.link.packets import publish_size, read_publish
from common.link.properties import packed_size, publish_properties
from common.link.reply import MAX_CORRELATION_BYTES

TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\x00\ufeff#+"), min_size=1, max_size=20)


@given(TEXTS, st.none() | st.binary(max_size=MAX_CORRELATION_BYTES), st.booleans(), TEXTS)
def test_what_paho_writes_is_read(topic: str, correlation: bytes | None, more: bool, text: str) -> None:
    properties = Properties(PacketTypes.PUBLISH)
    properties.ResponseTopic = topic
    if correlation is not None:
        properties.CorrelationData = correlation
    if more:
        properties.PayloadFormatIndicator = 1
        properties.MessageExpiryInterval = 30
        properties.ContentType = text
        properties.UserProperty = (text, topic)
        properties.TopicAlias = 3
        properties.SubscriptionIdentifier = 300
    packed = bytes(properties.pack())
    body = b"\x00\x01t" + packed + b"payload"
    packet = read_publish(0x31, body)
    assert (packet.payload, packet.retain) == (b"payload", True)
    assert reply_to(packet.properties) == ReplyTo(topic, correlation)


@given(st.binary(max_size=60))
def test_no_bytes_are_an_error(properties: bytes) -> None:
    found = reply_to(properties)
    assert found is None or found.topic.encode() in properties


def test_without_a_response_topic_or_with_too_much_there_is_no_reply() -> None:
    assert reply_to(b"") is None
    assert reply_to(b"\x09\x00\x01x") is None
    assert reply_to(b"\x08\x00\x01\xff") is None
    too_long = (MAX_CORRELATION_BYTES + 1).to_bytes(2, "big") + bytes(MAX_CORRELATION_BYTES + 1)
    assert reply_to(b"\x08\x00\x01x\x09" + too_long) is None


@given(st.binary(max_size=300))
def test_the_correlation_goes_out_as_it_came_in_and_is_counted(correlation: bytes) -> None:
    packed = publish_properties(30, None, correlation)
    reference = Properties(PacketTypes.PUBLISH)
    reference.MessageExpiryInterval = 30
    reference.CorrelationData = correlation
    assert packed.pack() == bytes(reference.pack())
    assert publish_size("t", b"", packed_size(packed), qos=1) > len(correlation)
