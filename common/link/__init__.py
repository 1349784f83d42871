"""The connection to the MQTT broker: the class `Link`. Only this package imports aiomqtt and paho."""

from common.link.link import Link
from common.link.reply import ReplyTo, reply_to
from common.link.settings import LinkError, LinkSettings
from common.link.values import Delivery, LinkStatistics, Publish, Received, Traffic

__all__ = [
    "Delivery",
    "Link",
    "LinkError",
    "LinkSettings",
    "LinkStatistics",
    "Publish",
    "Received",
    "ReplyTo",
    "Traffic",
    "reply_to",
]
