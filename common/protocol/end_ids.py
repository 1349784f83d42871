"""The target model's own end tokens, as an answer lists them: behind its context probabilities. Pure.

Law: an answer without them, as an older worker gives it, reads as one that lists none; a device that does not
know them ignores context probabilities of a wrong length.
"""

from collections.abc import Iterable

from common.protocol.codec.token_ids import LONG_ID_BYTES, decode_ids, encode_ids
from common.protocol.limits import MAX_VOCAB_SIZE


def with_end_ids(codes: bytes, end_ids: Iterable[int]) -> bytes:
    """Context probabilities, one byte each, and the end tokens, three bytes each, ascending."""
    known = sorted(token for token in end_ids if 0 <= token < MAX_VOCAB_SIZE)  # some models write -1 for none
    return codes + encode_ids(known, LONG_ID_BYTES)


def split_end_ids(data: bytes, num_codes: int) -> tuple[bytes, frozenset[int]]:
    """What `with_end_ids` joined, where `num_codes` were requested; nothing if the length is wrong."""
    num_id_bytes = len(data) - num_codes
    if num_id_bytes < 0 or num_id_bytes % LONG_ID_BYTES:
        return b"", frozenset()
    return data[:num_codes], frozenset(decode_ids(data[num_codes:], LONG_ID_BYTES).tolist())
