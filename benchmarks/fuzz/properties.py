"""MQTT 5 properties that a hostile device puts into a PUBLISH packet, packed, without their length prefix.

Law: a broker passes HOSTILE_PROPERTIES on unchanged, and client libraries fail on some of them. It closes the
connection on REFUSED_PROPERTIES. Both were tested with mosquitto.
"""

import random
from collections.abc import Iterator

PAYLOAD_FORMAT, EXPIRY, CONTENT_TYPE, RESPONSE_TOPIC, CORRELATION = 1, 2, 3, 8, 9
SUBSCRIPTION, SESSION_EXPIRY, ALIAS, USER = 11, 17, 35, 38
HOSTILE_SHARE = 0.25  # share of a flood's packets that have properties


def text(identifier: int, *values: str) -> bytes:
    """Return a property that is a text, or a name and a value."""
    encoded = (value.encode() for value in values)
    return bytes([identifier]) + b"".join(len(one).to_bytes(2, "big") + one for one in encoded)


ODD_CHARACTERS = "\ufeff\ufffd\u202e\u2028\u0301\U0001f600/+#$ a"
ODD_TEXTS = (
    "",
    "\ufeff",
    "a\ufeffb",
    "\ufffd",
    "e\u0301\u202e\u2028",
    *("x" * n for n in (127, 128, 16_384)),
)
HOSTILE_PROPERTIES = (
    *(text(CONTENT_TYPE, value) for value in ODD_TEXTS),
    *(text(USER, value, value) for value in ODD_TEXTS),
    *(text(RESPONSE_TOPIC, value) for value in ("", "\ufeff", "a/\ufeff/+/#", "x" * 300)),
    *(bytes([PAYLOAD_FORMAT, value]) for value in (0, 1, 2, 255)),
    bytes([EXPIRY]) + b"\xff\xff\xff\xff",
    bytes([CORRELATION]) + b"\0\3\xff\xfe\0",
    bytes([SUBSCRIPTION, 1]),
    bytes([ALIAS]) + b"\0\1",
    100 * text(USER, "\ufeff", "again"),
    text(USER, "n", "v") + text(CONTENT_TYPE, "\ufeff") + text(USER, "n", "v") + bytes([PAYLOAD_FORMAT, 7]),
    text(USER, "x" * 65_535, "\ufeff" * 20_000),
)
REFUSED_PROPERTIES = (
    bytes([ALIAS]) + b"\0\0",
    bytes([ALIAS]) + b"\xff\xff",
    2 * text(CONTENT_TYPE, "twice"),
    text(USER, "a\0", "b"),
    bytes([CONTENT_TYPE]) + b"\0\3\xed\xa0\x80",
    bytes([CONTENT_TYPE]) + b"\0\1\xff",
    bytes([CONTENT_TYPE]) + b"\0\x09cut",
    bytes([SESSION_EXPIRY]) + b"\0\0\0\1",
    b"\x63\1",
)


def properties(rng: random.Random) -> Iterator[bytes]:
    """Yield the properties of packets that a broker passes on; most packets have none."""
    small = [one for one in HOSTILE_PROPERTIES if len(one) < 1000]
    while True:
        chance = rng.random()
        if chance > HOSTILE_SHARE:
            yield b""
        elif chance < 0.01 * HOSTILE_SHARE:
            yield rng.choice(HOSTILE_PROPERTIES)
        elif chance < 0.5 * HOSTILE_SHARE:
            yield rng.choice(small)
        else:
            pairs = [_odd_text(rng) for _ in range(2 * rng.randint(1, 4))]
            yield b"".join(text(USER, *pair) for pair in zip(pairs[::2], pairs[1::2], strict=True))


def _odd_text(rng: random.Random) -> str:
    return "".join(rng.choices(ODD_CHARACTERS, k=rng.randrange(8)))
