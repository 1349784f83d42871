"""MQTT 5 PUBLISH packets: how many bytes one takes, and topic aliases that make the next one shorter.

Law: pure bookkeeping; nothing here touches a connection.
"""

from collections import OrderedDict


def publish_size(topic: str, payload: bytes, properties_size: int, qos: int) -> int:
    """Bytes of the whole packet; `properties_size` counts the packed properties with their length prefix."""
    remaining = 2 + len(topic.encode()) + (2 if qos else 0) + properties_size + len(payload)
    return 1 + _varint_size(remaining) + remaining


class TopicAliases:
    """Short numbers for the topics of one connection; the least recently used gives way to a new one."""

    def __init__(self, maximum: int) -> None:
        self._maximum = maximum
        self._numbers: OrderedDict[str, int] = OrderedDict()

    def assign(self, topic: str) -> tuple[str, int | None]:
        """The topic to write into the packet ("" when the alias says it all) and the alias, if any."""
        if topic in self._numbers:
            self._numbers.move_to_end(topic)
            return "", self._numbers[topic]
        if self._maximum == 0:
            return topic, None
        if len(self._numbers) < self._maximum:
            number = len(self._numbers) + 1
        else:
            _, number = self._numbers.popitem(last=False)
        self._numbers[topic] = number
        return topic, number


def _varint_size(value: int) -> int:
    return 1 if value < 2**7 else 2 if value < 2**14 else 3 if value < 2**21 else 4
