"""Token ids <-> bytes: little-endian, two bytes each, or three if any id of the message needs them.

Three rather than four, because no vocabulary has 2^24 tokens and ids are most of a draft.
"""

from collections.abc import Sequence

import numpy as np

from common.protocol.codec.errors import CodecError
from common.protocol.limits import MAX_VOCAB_SIZE
from common.sampling.distribution import IntArray

SHORT_ID_BYTES = 2
LONG_ID_BYTES = 3


def id_bytes_for(max_id: int) -> int:
    """Bytes per id in a message whose largest id is `max_id`."""
    if max_id >= MAX_VOCAB_SIZE:
        raise ValueError(f"token id {max_id} is too large: the protocol takes ids below {MAX_VOCAB_SIZE}")
    return SHORT_ID_BYTES if max_id < 2**16 else LONG_ID_BYTES


def encode_ids(ids: Sequence[int] | IntArray, id_bytes: int) -> bytes:
    """Encode ids [k] as k * id_bytes bytes; a negative id is an OverflowError."""
    if len(ids) == 0:
        return b""
    if id_bytes == SHORT_ID_BYTES:
        return np.asarray(ids, dtype="<u2").tobytes()
    return np.asarray(ids, dtype="<u4").view(np.uint8).reshape(-1, 4)[:, :LONG_ID_BYTES].tobytes()


def decode_ids(data: bytes, id_bytes: int) -> IntArray:
    """What `encode_ids` wrote, as a new array [k]."""
    if len(data) % id_bytes:
        raise CodecError(f"{len(data)} bytes of token ids are not a multiple of {id_bytes}")
    if id_bytes == SHORT_ID_BYTES:
        return np.frombuffer(data, dtype="<u2").astype(np.int64)
    padded = np.zeros((len(data) // id_bytes, 4), dtype=np.uint8)
    padded[:, :LONG_ID_BYTES] = np.frombuffer(data, dtype=np.uint8).reshape(-1, LONG_ID_BYTES)
    return padded.view("<u4").ravel().astype(np.int64)
