"""The distributions of a draft's block <-> CBOR: one array per form, with an entry for each block token.

Law: a form that no token uses is left out; a token without that form has an empty entry; no token has two
distributions. Decoding enforces law 1: the draft token could have been drawn from its distribution.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import cast

import numpy as np

from common.protocol.codec.errors import CodecError
from common.protocol.codec.fields import Fields
from common.protocol.codec.keys import DraftKey
from common.protocol.codec.token_ids import decode_ids, encode_ids
from common.protocol.limits import MAX_TRUNCATED_IDS
from common.protocol.messages import DraftToken
from common.sampling.distribution import (
    LATTICE_TOTALS,
    Dense,
    Distribution,
    IntArray,
    Lattice,
    TopK,
    decode_probs,
)

BYTE_TOTAL, TWO_BYTE_TOTAL = LATTICE_TOTALS
MAX_TOP_K_SUM = 1.03  # each one-byte code rounds a probability up by at most 2.93 %


def encode_distributions(block: Sequence[DraftToken], id_bytes: int) -> dict[int, object]:
    """The arrays of the forms that the block uses, by key."""
    distributions = [draft_token.distribution for draft_token in block]
    forms: dict[int, list[object]] = {}
    if any(isinstance(distribution, Lattice) for distribution in distributions):
        forms[DraftKey.LATTICES] = [_lattice_entry(entry, id_bytes) for entry in distributions]
    if any(isinstance(distribution, Dense) for distribution in distributions):
        forms[DraftKey.DENSES] = [_dense_entry(entry) for entry in distributions]
    for key, is_logarithmic in ((DraftKey.TOP_KS, True), (DraftKey.TOP_K_SHARES, False)):
        top_ks = [_if_coded(distribution, is_logarithmic) for distribution in distributions]
        if any(top_ks):
            forms[key] = [_top_k_entry(entry, id_bytes) for entry in top_ks]
    return dict(forms)


def decode_distributions(fields: Fields, tokens: IntArray, id_bytes: int) -> list[Distribution | None]:
    """A distribution or None for each of the block's `tokens`; CodecError names the token that is wrong."""
    found: list[Distribution | None] = [None] * len(tokens)
    for key, read in _READERS.items():
        for index, entry in enumerate(fields.entries(key, len(tokens))):
            try:
                distribution = read(entry, int(tokens[index]), id_bytes)
            except CodecError as error:
                raise CodecError(f"block token {index}: {error}") from error
            if distribution is None:
                continue
            if found[index] is not None:
                raise CodecError(f"block token {index}: more than one distribution")
            found[index] = distribution
    return found


def max_id_of(distribution: Distribution | None) -> int:
    """The largest id that a distribution lists; 0 for a dense one, which lists none."""
    return int(distribution.ids.max(initial=0)) if isinstance(distribution, Lattice | TopK) else 0


def check_lattice(lattice: Lattice) -> None:
    """Raise ValueError if a lattice cannot be sent."""
    ids, counts = lattice.ids.tolist(), lattice.counts.tolist()  # faster than arrays: most are short
    if sum(counts) not in LATTICE_TOTALS or len(ids) != len(counts):
        raise ValueError(f"a lattice of total {sum(counts)} cannot be sent: use one of {LATTICE_TOTALS}")
    order = [(-count, token) for token, count in zip(ids, counts, strict=True)]
    if order != sorted(order) or counts[-1] < 1 or min(ids) < 0 or len(set(ids)) < len(ids):
        raise ValueError(
            "a lattice must have distinct ids and counts from 1, in the order of common.sampling.distribution"
        )


# -- lattice: [ids, counts - 1], one byte per count for a total of 256, two for 65536 ------------------


def _lattice_entry(distribution: Distribution | None, id_bytes: int) -> list[object]:
    if not isinstance(distribution, Lattice):
        return [b"", b""]
    counts = (distribution.counts - 1).astype("<u1" if distribution.total == BYTE_TOTAL else "<u2")
    return [encode_ids(distribution.ids, id_bytes), counts.tobytes()]


def _read_lattice(entry: object, token: int, id_bytes: int) -> Lattice | None:
    raw_ids, raw_counts = _byte_strings(entry, 2)
    if not raw_ids and not raw_counts:
        return None
    ids = _distinct_ids(raw_ids, id_bytes)
    if len(raw_counts) == len(ids):
        total, dtype = BYTE_TOTAL, "<u1"
    elif len(raw_counts) == 2 * len(ids):
        total, dtype = TWO_BYTE_TOTAL, "<u2"
    else:
        raise CodecError(f"{len(raw_counts)} bytes of counts for {len(ids)} ids")
    counts = np.frombuffer(raw_counts, dtype=dtype).astype(np.int64) + 1
    if int(counts.sum()) != total:
        raise CodecError(f"the counts sum to {int(counts.sum())}, not to {total}")
    if not (ids == token).any():
        raise CodecError(f"the draft token {token} is not among the ids it was drawn from")
    # devices of 0.1.0 order the ids by their probabilities before rounding; the set alone counts here
    order = slice(None) if _in_order(ids, counts) else np.lexsort((ids, -counts))
    return Lattice(ids[order], counts[order])


# -- dense: float16 weights, little-endian -------------------------------------------------------------


def _dense_entry(distribution: Distribution | None) -> bytes:
    return (
        distribution.weights.astype("<f2", copy=False).tobytes() if isinstance(distribution, Dense) else b""
    )


def _read_dense(entry: object, token: int, _id_bytes: int) -> Dense | None:
    if type(entry) is not bytes or len(entry) % 2:
        raise CodecError("a dense distribution must be a byte string of float16 weights")
    if not entry:
        return None
    weights = np.frombuffer(entry, dtype="<f2").astype(np.float16)
    if not (np.isfinite(weights).all() and (weights >= 0).all()):
        raise CodecError("a weight is negative or not finite")
    if token >= len(weights) or weights[token] == 0:
        raise CodecError(f"the draft token {token} has no weight in the distribution it was drawn from")
    return Dense(weights)


# -- CU-HLM's top-k: [ids, one-byte probabilities, the draft token's own probability] ------------------


def _if_coded(distribution: Distribution | None, is_logarithmic: bool) -> TopK | None:
    if isinstance(distribution, TopK) and distribution.is_logarithmic == is_logarithmic:
        return distribution
    return None


def _top_k_entry(distribution: TopK | None, id_bytes: int) -> list[object]:
    if distribution is None:
        return [b"", b"", 0.0]
    codes = distribution.codes.astype(np.uint8).tobytes()
    return [encode_ids(distribution.ids, id_bytes), codes, float(np.float32(distribution.draft_prob))]


def _read_logarithmic(entry: object, token: int, id_bytes: int) -> TopK | None:
    top_k = _read_top_k(entry, token, id_bytes)
    if top_k is None:
        return None
    if float(decode_probs(top_k.codes).sum()) > MAX_TOP_K_SUM:
        raise CodecError("the probabilities sum to more than 1")
    return replace(top_k, is_logarithmic=True)


def _read_top_k(entry: object, _token: int, id_bytes: int) -> TopK | None:
    if type(entry) is not list or len(cast(list[object], entry)) != 3:
        raise CodecError("a top-k distribution must be an array of ids, codes and the draft probability")
    *strings, draft_prob = cast(list[object], entry)
    raw_ids, raw_codes = _byte_strings(strings, 2)
    if type(draft_prob) is not float:
        raise CodecError("the draft probability must be a float")
    if not raw_ids and not raw_codes:
        return None
    ids = _distinct_ids(raw_ids, id_bytes)
    codes = np.frombuffer(raw_codes, dtype=np.uint8).copy()
    if len(codes) != len(ids):
        raise CodecError(f"{len(codes)} probabilities for {len(ids)} ids")
    if not 0.0 < draft_prob <= 1.0:
        raise CodecError("the draft probability must be above 0 and at most 1")
    return TopK(ids, codes, draft_prob)


_READERS: Mapping[DraftKey, Callable[[object, int, int], Distribution | None]] = {
    DraftKey.LATTICES: _read_lattice,
    DraftKey.DENSES: _read_dense,
    DraftKey.TOP_KS: _read_logarithmic,
    DraftKey.TOP_K_SHARES: _read_top_k,
}


def _in_order(ids: IntArray, counts: IntArray) -> bool:
    steps = np.diff(counts)
    return bool(((steps < 0) | ((steps == 0) & (np.diff(ids) > 0))).all())


def _byte_strings(entry: object, count: int) -> list[bytes]:
    if type(entry) is list and len(cast(list[object], entry)) == count:
        strings = [item for item in cast(list[object], entry) if type(item) is bytes]
        if len(strings) == count:
            return strings
    raise CodecError(f"a truncated distribution must hold {count} byte strings")


def _distinct_ids(data: bytes, id_bytes: int) -> IntArray:
    ids = decode_ids(data, id_bytes)
    if not 1 <= len(ids) <= MAX_TRUNCATED_IDS:
        raise CodecError(f"a truncated distribution has 1 to {MAX_TRUNCATED_IDS} ids, not {len(ids)}")
    if len(np.unique(ids)) != len(ids):
        raise CodecError("an id occurs twice in one distribution")
    return ids
