"""The last will: what the broker publishes for a connection that ended without a word."""

import aiomqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from common.link.values import Publish


def will_of(will: Publish) -> aiomqtt.Will:
    """As aiomqtt takes it, with the expiry among its properties."""
    properties = Properties(PacketTypes.WILLMESSAGE)
    if will.expiry is not None:
        properties.MessageExpiryInterval = will.expiry
    return aiomqtt.Will(will.topic, will.payload, will.qos, will.retain, properties)
