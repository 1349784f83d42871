"""An app of the device: a client of MQTT 3.1.1 or 5 that is not ours, with everything that it received."""

import json
import queue
import time
from collections.abc import Callable
from typing import Any, NamedTuple, Self

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

PATIENCE = 20.0


class Message(NamedTuple):
    topic: str
    payload: bytes
    retain: bool = False
    correlation: bytes | None = None

    @property
    def json(self) -> Any:
        return json.loads(self.payload)


class App:
    """Reads and sends below `hlm/v1/app/{device}`; topics are given without that."""

    def __init__(
        self, port: int, device: str = "kitchen", *, version: int = 4, more: tuple[str, ...] = ()
    ) -> None:
        self.prefix = f"hlm/v1/app/{device}/"
        self.messages: queue.Queue[Message] = queue.Queue()
        self.seen: list[Message] = []
        self._ready: queue.Queue[None] = queue.Queue()
        topics = [(one, 1) for one in (more or (self.prefix + "#",))]
        self.client = paho.Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion(version))
        self.client.reconnect_delay_set(1, 1)
        self.client.on_connect = lambda client, _1, _2, _3, _4: self._subscribe(client, topics)
        self.client.on_subscribe = lambda _1, _2, _3, _4, _5: self._ready.put(None)
        self.client.on_message = self._arrived
        self.client.connect("127.0.0.1", port)
        self.client.loop_start()
        self._ready.get(timeout=PATIENCE)

    def send(
        self,
        name: str,
        payload: object,
        *,
        retain: bool = False,
        reply: str = "",
        correlation: bytes = b"",
        qos: int = 1,
    ) -> None:
        content = payload if isinstance(payload, bytes | str) else json.dumps(payload)
        properties = None
        if reply:
            properties = Properties(PacketTypes.PUBLISH)
            properties.ResponseTopic = reply
            if correlation:
                properties.CorrelationData = correlation
        self.client.publish(self.prefix + name, content, qos=qos, retain=retain, properties=properties)

    def wait(
        self, name: str, wanted: Callable[[Message], bool] = lambda _: True, timeout: float = PATIENCE
    ) -> Message:
        """The next message on a topic that is wanted; those before it are kept in `seen`."""
        end = time.monotonic() + timeout
        while True:
            message = self.messages.get(timeout=max(0.01, end - time.monotonic()))
            self.seen.append(message)
            if message.topic == self.prefix + name and wanted(message):
                return message

    def answer(self, id: object, timeout: float = PATIENCE) -> Any:
        return self.wait("answer", lambda one: one.json["id"] == id, timeout).json

    def event(self, event_type: str) -> Any:
        return self.wait("event", lambda one: one.json["event_type"] == event_type).json

    def all(self, name: str) -> list[Message]:
        """What has come on a topic so far."""
        while not self.messages.empty():
            self.seen.append(self.messages.get())
        return [one for one in self.seen if one.topic == self.prefix + name]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.client.disconnect()
        self.client.loop_stop()

    def _subscribe(self, client: paho.Client, topics: list[tuple[str, int]]) -> None:
        client.subscribe(topics)

    def _arrived(self, _client: object, _data: object, message: paho.MQTTMessage) -> None:
        correlation = getattr(message.properties, "CorrelationData", None)
        self.messages.put(Message(message.topic, bytes(message.payload), message.retain, correlation))
