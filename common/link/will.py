"""The last will: what the broker publishes when the connection ends."""

import aiomqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from common.link.values import Publish


def will_of(will: Publish) -> aiomqtt.Will:
    """The will in aiomqtt's form, with the expiry as a property."""
    properties = Properties(PacketTypes.WILLMESSAGE)
    if will.expiry is not None:
        properties.MessageExpiryInterval = will.expiry
    return aiomqtt.Will(will.topic, will.payload, will.qos, will.retain, properties)
