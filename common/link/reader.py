"""Received PUBLISH packets, without a look at their properties.

Law: nothing that a stranger writes into a packet which the broker takes ends the connection. paho parses the
properties of every packet, 30 us each, and hangs up on what brokers pass on: U+FEFF in a user property, a
content type or a response topic, or 2 as the payload format. The link needs none of them, so they are skipped
by their length. Anything else in a packet is the broker's own work; there, breaking the protocol is the end.
"""

from collections.abc import Callable
from typing import TypeAlias

from paho.mqtt.client import Client as PahoClient
from paho.mqtt.enums import MQTTErrorCode

from common.link.packets import MalformedPacketError, read_publish

OnMessage: TypeAlias = Callable[[str, bytes, int], None]  # topic, payload, bytes of the packet


class Reader(PahoClient):
    """paho's client, but that its `on_message` is not asked: messages go to the function given to `attach`.

    aiomqtt makes its paho client itself, so `attach` changes the class of that one. One method is replaced,
    with the same name in paho 2.1 and 2.2: it hands a whole packet on and acknowledges it. Sockets, partial
    reads, keepalive and all other packets stay paho's. The fields of `_in_packet` that are read here are as
    old. A release without them fails at the first message, one without the method at once: none in silence.
    """

    _take: OnMessage

    @classmethod
    def attach(cls, client: PahoClient, on_message: OnMessage) -> None:
        """From now on `client` hands what it receives to `on_message`."""
        if not callable(getattr(PahoClient, "_handle_publish", None)):
            raise RuntimeError("this release of paho-mqtt reads messages in another way: install 2.1 or 2.2")
        client.__class__ = cls
        vars(client)["_take"] = on_message

    def _handle_publish(self) -> MQTTErrorCode:
        packet = self._in_packet
        body = packet["packet"]
        try:
            message = read_publish(packet["command"], body)
        except MalformedPacketError:
            return MQTTErrorCode.MQTT_ERR_PROTOCOL
        self._take(message.topic, message.payload, 1 + len(packet["remaining_count"]) + len(body))
        return MQTTErrorCode.MQTT_ERR_SUCCESS if message.mid is None else self._send_puback(message.mid)
