"""Correction and Refusal <-> the fields of a CBOR map.

Law: the worker id of an answer becomes a level of a topic, so it is accepted only if it is a valid name.
"""

from common.protocol.codec.errors import CodecError
from common.protocol.codec.fields import Fields, shorten
from common.protocol.codec.keys import CorrectionKey, RefusalKey
from common.protocol.limits import (
    MAX_BLOCK_TOKENS,
    MAX_BONUS_TOKENS,
    MAX_DETAIL_CHARS,
    MAX_RETRY_AFTER_MS,
    MAX_UINT32,
    MAX_VOCAB_SIZE,
)
from common.protocol.messages import Correction, Reason, Refusal
from common.protocol.topics import MAX_NAME_LENGTH, check_name

CORRECTION_DEFAULTS: dict[int, object] = {
    CorrectionKey.NUM_ACCEPTED: 0,
    CorrectionKey.TOKEN: None,
    CorrectionKey.INDEX: 0,
    CorrectionKey.CONTEXT_CODES: b"",
    CorrectionKey.COMPUTE_TENTH_MS: 0,
    CorrectionKey.LIMIT: 0,
}
REFUSAL_DEFAULTS: dict[int, object] = {
    RefusalKey.N: None,
    RefusalKey.DETAIL: "",
    RefusalKey.HAVE: 0,
    RefusalKey.RETRY_AFTER_MS: 0,
}


def encode_correction(correction: Correction) -> dict[int, object]:
    """The fields of a correction; the compute time is rounded to a tenth of a millisecond."""
    fields: dict[int, object] = {
        CorrectionKey.N: correction.n,
        CorrectionKey.NUM_ACCEPTED: correction.num_accepted,
        CorrectionKey.TOKEN: correction.token,
        CorrectionKey.WORKER: correction.worker,
        CorrectionKey.INDEX: correction.index,
        CorrectionKey.CONTEXT_CODES: correction.context_codes,
        CorrectionKey.COMPUTE_TENTH_MS: round(correction.compute_ms * 10),
        CorrectionKey.LIMIT: correction.limit,
    }
    return shorten(fields, CORRECTION_DEFAULTS)


def encode_refusal(refusal: Refusal) -> dict[int, object]:
    """The fields of a refusal; a long detail is cut, `retry_after` is rounded to a millisecond."""
    fields: dict[int, object] = {
        RefusalKey.N: refusal.n,
        RefusalKey.WORKER: refusal.worker,
        RefusalKey.REASON: int(refusal.reason),
        RefusalKey.DETAIL: refusal.detail[:MAX_DETAIL_CHARS],
        RefusalKey.HAVE: refusal.have,
        RefusalKey.RETRY_AFTER_MS: round(refusal.retry_after * 1000),
    }
    return shorten(fields, REFUSAL_DEFAULTS)


def decode_correction(raw_fields: dict[int, object]) -> Correction:
    """The correction; CodecError if a field is wrong."""
    fields = Fields("correction", raw_fields, CorrectionKey)
    has_token = CorrectionKey.TOKEN in fields
    return Correction(
        n=fields.integer(CorrectionKey.N, MAX_UINT32),
        num_accepted=fields.integer(CorrectionKey.NUM_ACCEPTED, MAX_BLOCK_TOKENS, default=0),
        token=fields.integer(CorrectionKey.TOKEN, MAX_VOCAB_SIZE - 1) if has_token else None,
        worker=_worker(fields, CorrectionKey.WORKER),
        index=fields.integer(CorrectionKey.INDEX, MAX_BONUS_TOKENS, default=0),
        context_codes=fields.data(CorrectionKey.CONTEXT_CODES),
        compute_ms=fields.integer(CorrectionKey.COMPUTE_TENTH_MS, MAX_UINT32, default=0) / 10,
        limit=fields.integer(CorrectionKey.LIMIT, MAX_UINT32, default=0),
    )


def decode_refusal(raw_fields: dict[int, object]) -> Refusal:
    """The refusal; CodecError if a field is wrong."""
    fields = Fields("refusal", raw_fields, RefusalKey)
    return Refusal(
        n=fields.integer(RefusalKey.N, MAX_UINT32) if RefusalKey.N in fields else None,
        reason=Reason(fields.integer(RefusalKey.REASON, max(Reason), low=min(Reason))),
        worker=_worker(fields, RefusalKey.WORKER),
        detail=fields.text(RefusalKey.DETAIL, MAX_DETAIL_CHARS, default=""),
        have=fields.integer(RefusalKey.HAVE, MAX_UINT32, default=0),
        retry_after=fields.integer(RefusalKey.RETRY_AFTER_MS, MAX_RETRY_AFTER_MS, default=0) / 1000,
    )


def _worker(fields: Fields, key: CorrectionKey | RefusalKey) -> str:
    try:
        return check_name(fields.text(key, MAX_NAME_LENGTH), "worker")
    except ValueError as error:
        raise CodecError(str(error)) from error
