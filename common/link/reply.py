"""Where the sender of a message wants the reply, and what with it: two properties of MQTT 5 (3.3.2.3). Pure.

Law: properties are written by unknown clients. What is not well formed asks for no reply, and raises nothing.
"""

from dataclasses import dataclass

RESPONSE_TOPIC, CORRELATION_DATA = 0x08, 0x09
MAX_CORRELATION_BYTES = 256

_FIXED = {0x01: 1, 0x02: 4, 0x23: 2}  # payload format, expiry, topic alias
_TEXTS = {0x03, RESPONSE_TOPIC, CORRELATION_DATA}  # a content type too: two bytes of length, then the text
_USER_PROPERTY, _SUBSCRIPTION_ID = 0x26, 0x0B


@dataclass(frozen=True, slots=True)
class ReplyTo:
    """A topic that the sender reads, and bytes by which it recognises the reply."""

    topic: str
    correlation: bytes | None = None


def reply_to(properties: bytes) -> ReplyTo | None:
    """What the properties of a PUBLISH ask for; None without a response topic, or if they cannot be read."""
    try:
        found = _read(properties)
        topic = found[RESPONSE_TOPIC].decode()
    except (IndexError, KeyError, UnicodeDecodeError):
        return None
    correlation = found.get(CORRELATION_DATA)
    if correlation is not None and len(correlation) > MAX_CORRELATION_BYTES:
        return None
    return ReplyTo(topic, correlation)


def _read(properties: bytes) -> dict[int, bytes]:
    """The texts by their identifier; IndexError where they are cut short, KeyError for an unknown one."""
    found: dict[int, bytes] = {}
    at = 0
    while at < len(properties):
        kind, at = properties[at], at + 1
        if kind in _TEXTS:
            found[kind], at = _text(properties, at)
        elif kind == _USER_PROPERTY:
            _, at = _text(properties, at)
            _, at = _text(properties, at)
        elif kind == _SUBSCRIPTION_ID:
            while properties[at] & 0x80:
                at += 1
            at += 1
        else:
            at += _FIXED[kind]
    if at > len(properties):
        raise IndexError
    return found


def _text(properties: bytes, at: int) -> tuple[bytes, int]:
    end = at + 2 + int.from_bytes(properties[at : at + 2], "big")
    if end > len(properties):
        raise IndexError
    return properties[at + 2 : end], end
