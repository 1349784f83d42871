"""Reading received PUBLISH packets without parsing their properties.

Law: nothing that an unknown client writes into a packet, and that the broker accepts, ends the connection.
paho parses the properties of every packet, which takes 30 us, and hangs up on some that brokers pass on:
U+FEFF in a user property, a content type or a response topic, or 2 as the payload format. The link needs no
properties, so it passes them on unread. The broker itself makes the rest of a packet; a violation of the
protocol there ends the connection.
"""

from collections.abc import Callable
from typing import TypeAlias, cast

from paho.mqtt.client import Client as PahoClient
from paho.mqtt.enums import MQTTErrorCode

from common.link.packets import MalformedPacketError, PublishPacket, read_publish

OnMessage: TypeAlias = Callable[[PublishPacket, int], None]  # and the bytes of the packet


class Reader(PahoClient):
    """paho's client, except that messages go to the function given to `attach` instead of `on_message`.

    aiomqtt makes its paho client itself, so `attach` changes the class of that object. It replaces one method
    of paho 2.1 and 2.2, in order to pass a whole packet on and acknowledge it. Sockets, partial reads,
    keepalive and all other packets stay paho's. The fields of `_in_packet` used here are those of both
    releases. A release without the method fails at once, one without the fields at the first message: never
    silently.
    """

    _take: OnMessage

    @classmethod
    def attach(cls, client: PahoClient, on_message: OnMessage) -> "Reader":
        """From now on `client`, which is returned as a Reader, hands what it receives to `on_message`."""
        if not callable(getattr(PahoClient, "_handle_publish", None)):
            raise RuntimeError("this release of paho-mqtt is not supported: install 2.1 or 2.2")
        client.__class__ = cls
        vars(client)["_take"] = on_message
        return cast("Reader", client)

    def ping(self) -> None:
        """Ask the broker for a sign of life.

        The caller judges the silence. paho must not: it would hang up where its own keepalive is over too.
        """
        self._send_pingreq()
        self._ping_t = 0.0
        self.loop_write()

    def _handle_publish(self) -> MQTTErrorCode:
        packet = self._in_packet
        body = packet["packet"]
        try:
            message = read_publish(packet["command"], body)
        except MalformedPacketError:
            return MQTTErrorCode.MQTT_ERR_PROTOCOL
        self._take(message, 1 + len(packet["remaining_count"]) + len(body))
        return MQTTErrorCode.MQTT_ERR_SUCCESS if message.mid is None else self._send_puback(message.mid)
