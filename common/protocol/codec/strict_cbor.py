"""Bytes <-> one CBOR map with integer keys; the only importer of cbor2.

Law: the work that a hostile sender can cause is bounded before cbor2 sees a byte. A scan over the item heads
admits only one flat map of at most 23 pairs with definite lengths, no tags, few items and no deep nesting, so
the decoder finds nothing to hash, recurse into or build at length.
"""

from typing import cast

import cbor2

from common.protocol.codec.errors import CodecError
from common.protocol.limits import MAX_CBOR_DEPTH, MAX_CBOR_ITEMS, MAX_PAYLOAD_BYTES

_BYTES, _TEXT, _ARRAY, _MAP, _TAG, _SIMPLE = 2, 3, 4, 5, 6, 7
_SIMPLE_VALUES = (20, 21, 22, 25, 26, 27)  # false, true, null, and floats of 2, 4, 8 bytes


def dumps(fields: dict[int, object]) -> bytes:
    """The canonical encoding: ascending keys, shortest integers and floats."""
    return cbor2.dumps(fields, canonical=True)


def loads(payload: bytes) -> dict[int, object]:
    """The map in `payload`; CodecError states what is wrong with it."""
    if len(payload) > MAX_PAYLOAD_BYTES:
        raise CodecError(f"the payload of {len(payload)} bytes exceeds {MAX_PAYLOAD_BYTES}")
    num_pairs = _scan(payload)
    try:
        decoded = cast(dict[object, object], cbor2.loads(payload))
    except cbor2.CBORError as error:
        raise CodecError(f"the payload is not valid CBOR: {error}") from error
    fields = {key: value for key, value in decoded.items() if type(key) is int}
    if len(fields) < len(decoded):
        raise CodecError("a key of the map is not an integer")
    if len(fields) < num_pairs:
        raise CodecError("a key of the map occurs twice")
    return fields


def _scan(payload: bytes) -> int:
    """Walk over the heads of all items; return the number of pairs in the one map."""
    if not payload or not 0xA0 <= payload[0] <= 0xB7:
        raise CodecError("the payload is not a CBOR map of at most 23 pairs with a definite length")
    num_pairs = payload[0] & 31
    offset = 1
    missing = [2 * num_pairs]  # items that each open container still lacks, the outermost first
    for _ in range(MAX_CBOR_ITEMS):
        while missing and missing[-1] == 0:
            missing.pop()
        if not missing:
            if offset < len(payload):
                raise CodecError(f"{len(payload) - offset} bytes follow the message")
            return num_pairs
        missing[-1] -= 1
        major, argument, offset = _head(payload, offset)
        if major in (_BYTES, _TEXT):
            offset += argument
            if offset > len(payload):
                raise _truncated()
        elif major == _ARRAY:
            missing.append(argument)
            if len(missing) > MAX_CBOR_DEPTH:
                raise CodecError(f"containers are nested deeper than {MAX_CBOR_DEPTH}")
    raise CodecError(f"the message has more than {MAX_CBOR_ITEMS} items")


def _head(payload: bytes, offset: int) -> tuple[int, int, int]:
    """Major type, argument, and the offset after the head."""
    if offset >= len(payload):
        raise _truncated()
    major, info = payload[offset] >> 5, payload[offset] & 31
    if major == _TAG:
        raise CodecError(f"byte {offset} starts a tag, which the protocol does not use")
    if major == _MAP:
        raise CodecError(f"byte {offset} starts a map within the map")
    if major == _SIMPLE and info not in _SIMPLE_VALUES:
        raise CodecError(f"byte {offset} starts a simple value that the protocol does not use")
    if info < 24:
        return major, info, offset + 1
    if info > 27:
        raise CodecError(f"byte {offset} starts an item without a definite length")
    end = offset + 1 + (1 << (info - 24))
    if end > len(payload):
        raise _truncated()
    return major, int.from_bytes(payload[offset + 1 : end], "big"), end


def _truncated() -> CodecError:
    return CodecError("the message ends before it is complete")
