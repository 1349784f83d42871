"""Messages <-> bytes. Received bytes are checked here and nowhere else: a decoded message is valid.

Law: any payload either decodes to a message that follows the protocol (docs/protocol.md) or raises
CodecError, in time and memory bounded by `limits`. Decoding what `encode` wrote returns the same message.
"""

from common.protocol.codec.answer import decode_correction, decode_refusal, encode_correction, encode_refusal
from common.protocol.codec.draft import check_ids, decode_draft, encode_draft
from common.protocol.codec.errors import CodecError
from common.protocol.codec.keys import DraftKey, RefusalKey
from common.protocol.codec.strict_cbor import dumps, loads
from common.protocol.limits import MAX_PAYLOAD_BYTES, MAX_UINT32
from common.protocol.messages import (
    PROTOCOL_VERSION,
    Close,
    Correction,
    Draft,
    Reason,
    Refusal,
    ToDevice,
    ToWorker,
)

__all__ = ["MAX_PAYLOAD_BYTES", "CodecError", "check_ids", "decode_to_device", "decode_to_worker", "encode"]


def encode(message: ToWorker | ToDevice, *, may_pack: bool = True) -> bytes:
    """The payload of a message; ValueError if the message is invalid or too large.

    `may_pack` false leaves a block in the plain form, as a sender does that cannot pack.
    """
    match message:
        case Draft():
            fields = encode_draft(message, may_pack=may_pack)
        case Close():
            fields = {}
        case Correction():
            fields = encode_correction(message)
        case Refusal():
            fields = encode_refusal(message)
    payload = dumps(fields)
    if len(payload) > MAX_PAYLOAD_BYTES:
        raise ValueError(f"a message of {len(payload)} bytes exceeds the limit of {MAX_PAYLOAD_BYTES}")
    return payload


def decode_to_worker(payload: bytes) -> ToWorker:
    """Decode a device's message; CodecError if it is not valid."""
    fields = loads(payload)
    if not fields:
        return Close()
    version = fields.get(DraftKey.VERSION, PROTOCOL_VERSION)
    if version != PROTOCOL_VERSION:
        detail = f"this worker speaks only version {PROTOCOL_VERSION} of the protocol"
        raise CodecError(detail, n=_number(fields), reason=Reason.UNSUPPORTED_VERSION)
    try:
        return decode_draft(fields)
    except CodecError as error:
        error.n = _number(fields)
        raise


def decode_to_device(payload: bytes) -> ToDevice:
    """Decode a worker's answer; CodecError if it is not valid."""
    fields = loads(payload)
    try:
        return decode_refusal(fields) if RefusalKey.REASON in fields else decode_correction(fields)
    except CodecError as error:
        error.n = _number(fields)
        raise


def _number(fields: dict[int, object]) -> int | None:
    n = fields.get(DraftKey.N)
    return n if type(n) is int and 0 <= n <= MAX_UINT32 else None
