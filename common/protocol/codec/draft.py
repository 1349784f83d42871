"""Draft and its Opening <-> the fields of a CBOR map.

Law: a draft has an opening exactly when its base is 0, because those are the drafts from which a worker may
take a session. With base 0 there is no prefix to check, so `check` is 0.
"""

import math

from common.protocol.codec.distributions import (
    check_lattice,
    decode_distributions,
    encode_distributions,
    max_id_of,
)
from common.protocol.codec.errors import CodecError
from common.protocol.codec.fields import Fields, shorten
from common.protocol.codec.grammar import check_end_ids, decode_grammar, encode_grammar
from common.protocol.codec.keys import DraftKey
from common.protocol.codec.packed_block import pack_block, unpack_block
from common.protocol.codec.token_ids import (
    LONG_ID_BYTES,
    SHORT_ID_BYTES,
    decode_ids,
    encode_ids,
    id_bytes_for,
)
from common.protocol.fingerprint import FINGERPRINT_BYTES
from common.protocol.limits import (
    LEAST_REPETITION_PENALTY,
    MAX_BLOCK_TOKENS,
    MAX_BONUS_TOKENS,
    MAX_PENALTY,
    MAX_REPETITION_PENALTY,
    MAX_TEMPERATURE,
    MAX_UINT32,
    MAX_VOCAB_SIZE,
)
from common.protocol.messages import PROTOCOL_VERSION, Draft, DraftToken, Opening
from common.sampling.distribution import Dense, Lattice, Sampling
from common.sampling.randomness import MAX_SEED

DEFAULTS: dict[int, object] = {
    DraftKey.EPOCH: 0,
    DraftKey.BASE: 0,
    DraftKey.CHECK: 0,
    DraftKey.CONTEXT: b"",
    DraftKey.BLOCK: b"",
    DraftKey.ID_BYTES: SHORT_ID_BYTES,
    DraftKey.BONUS: 0,
    DraftKey.NUM_CONTEXT_PROBS: 0,
    DraftKey.VERSION: PROTOCOL_VERSION,
    DraftKey.TEMPERATURE: 1.0,
    DraftKey.TOP_K: 0,
    DraftKey.TOP_P: 1.0,
    DraftKey.MIN_P: 0.0,
    DraftKey.PENALTIES: [],
}
_OPENING_KEYS = (
    *(key for key in DraftKey if DraftKey.TOKENIZER <= key <= DraftKey.TOP_P),
    DraftKey.MIN_P,
    DraftKey.PENALTIES,
    DraftKey.GRAMMAR,
)
_PLAIN_KEYS = (
    DraftKey.BLOCK,
    DraftKey.LATTICES,
    DraftKey.DENSES,
    DraftKey.TOP_KS,
    DraftKey.TOP_K_SHARES,
)


def encode_draft(draft: Draft, *, may_pack: bool = True) -> dict[int, object]:
    """The fields of a draft; ValueError if it breaks this module's law or an id is too large.

    The block is packed where possible, which is never longer, unless `may_pack` is false.
    """
    if (draft.base == 0) != (draft.opening is not None):
        raise ValueError("a draft has an opening exactly when its base is 0")
    for draft_token in draft.block:
        if isinstance(draft_token.distribution, Lattice):
            check_lattice(draft_token.distribution)
    packed = pack_block(draft.block) if may_pack else None
    if packed is None:
        id_bytes = id_bytes_for(_max_id(draft))
        tokens = [draft_token.token for draft_token in draft.block]
        block = {DraftKey.BLOCK: encode_ids(tokens, id_bytes)} | encode_distributions(draft.block, id_bytes)
    else:
        id_bytes = id_bytes_for(max(draft.context, default=0))
        block = {DraftKey.PACKED: packed}
    fields: dict[int, object] = {
        DraftKey.N: draft.n,
        DraftKey.EPOCH: draft.epoch,
        DraftKey.BASE: draft.base,
        DraftKey.CHECK: draft.check,
        DraftKey.CONTEXT: encode_ids(draft.context, id_bytes),
        DraftKey.ID_BYTES: id_bytes,
        DraftKey.BONUS: draft.bonus,
        DraftKey.NUM_CONTEXT_PROBS: draft.num_context_probs,
    }
    fields |= block
    if draft.opening is not None:
        fields |= _encode_opening(draft.opening)
    return shorten(fields, DEFAULTS)


def decode_draft(raw_fields: dict[int, object]) -> Draft:
    """The draft; CodecError if a field is wrong or the fields contradict each other."""
    fields = Fields("draft", raw_fields, DraftKey)
    id_bytes = fields.integer(DraftKey.ID_BYTES, LONG_ID_BYTES, low=SHORT_ID_BYTES, default=SHORT_ID_BYTES)
    context = decode_ids(fields.data(DraftKey.CONTEXT), id_bytes)
    draft = Draft(
        n=fields.integer(DraftKey.N, MAX_UINT32),
        epoch=fields.integer(DraftKey.EPOCH, MAX_UINT32, default=0),
        base=fields.integer(DraftKey.BASE, MAX_UINT32, default=0),
        context=tuple(context.tolist()),
        block=_decode_block(fields, id_bytes),
        bonus=fields.integer(DraftKey.BONUS, MAX_BONUS_TOKENS, default=0),
        num_context_probs=fields.integer(DraftKey.NUM_CONTEXT_PROBS, len(context), default=0),
        check=fields.integer(DraftKey.CHECK, MAX_UINT32, default=0),
        opening=_decode_opening(fields),
    )
    if (draft.base == 0) != (draft.opening is not None):
        raise CodecError("a draft has an opening exactly when its base is 0")
    if draft.base == 0 and draft.check != 0:
        raise fields.error(DraftKey.CHECK, "must be 0 when the base is 0")
    if draft.opening is not None:
        check_ids(draft, draft.opening.vocab_size)
        check_end_ids(draft.opening, fields)
    return draft


def check_ids(draft: Draft, vocab_size: int) -> None:
    """Raise CodecError unless all ids and dense distributions of the draft fit a vocabulary of that size."""
    largest = _max_id(draft)
    for draft_token in draft.block:
        distribution = draft_token.distribution
        if isinstance(distribution, Dense) and len(distribution.weights) != vocab_size:
            detail = f"{len(distribution.weights)} weights for a vocabulary of {vocab_size} tokens"
            raise CodecError(detail, n=draft.n)
    if largest >= vocab_size:
        raise CodecError(f"token id {largest} is outside the vocabulary of {vocab_size} tokens", n=draft.n)


def _max_id(draft: Draft) -> int:
    """The largest token id anywhere in a draft."""
    block_ids = (max(token.token, max_id_of(token.distribution)) for token in draft.block)
    return max(0, max(draft.context, default=0), max(block_ids, default=0))


def _decode_block(fields: Fields, id_bytes: int) -> tuple[DraftToken, ...]:
    if DraftKey.PACKED in fields:
        if any(key in fields for key in _PLAIN_KEYS):
            raise fields.error(DraftKey.PACKED, "must not come with a block in the plain form")
        return tuple(unpack_block(fields.strings(DraftKey.PACKED, MAX_BLOCK_TOKENS)))
    tokens = decode_ids(fields.data(DraftKey.BLOCK), id_bytes)
    if len(tokens) > MAX_BLOCK_TOKENS:
        raise fields.error(DraftKey.BLOCK, f"has {len(tokens)} tokens, more than {MAX_BLOCK_TOKENS}")
    return tuple(map(DraftToken, tokens.tolist(), decode_distributions(fields, tokens, id_bytes)))


def _encode_opening(opening: Opening) -> dict[int, object]:
    grammar: dict[int, object] = (
        {} if opening.grammar is None else {DraftKey.GRAMMAR: encode_grammar(opening.grammar)}
    )
    return grammar | {
        DraftKey.TOKENIZER: opening.tokenizer,
        DraftKey.VOCAB_SIZE: opening.vocab_size,
        DraftKey.SEED: opening.seed,
        DraftKey.VERSION: opening.version,
        DraftKey.TEMPERATURE: float(opening.sampling.temperature),
        DraftKey.TOP_K: opening.sampling.top_k,
        DraftKey.TOP_P: float(opening.sampling.top_p),
        DraftKey.MIN_P: float(opening.sampling.min_p),
        DraftKey.PENALTIES: _encode_penalties(opening),
    }


def _encode_penalties(opening: Opening) -> list[object]:
    """[repetition, presence, frequency, num_prompt]; empty without penalties."""
    sampling = opening.sampling
    if not sampling.has_penalties:
        return []
    penalties = sampling.repetition_penalty, sampling.presence_penalty, sampling.frequency_penalty
    return [*map(float, penalties), opening.num_prompt]


def _decode_opening(fields: Fields) -> Opening | None:
    if not any(key in fields for key in _OPENING_KEYS):
        return None
    tokenizer = fields.data(DraftKey.TOKENIZER, default=None)
    if len(tokenizer) != FINGERPRINT_BYTES:
        raise fields.error(DraftKey.TOKENIZER, f"must have {FINGERPRINT_BYTES} bytes")
    temperature = fields.number(DraftKey.TEMPERATURE, 1.0)
    if not (math.isfinite(temperature) and 0.0 <= temperature <= MAX_TEMPERATURE):
        raise fields.error(DraftKey.TEMPERATURE, f"must be from 0 to {MAX_TEMPERATURE:g}")
    top_p = fields.number(DraftKey.TOP_P, 1.0)
    if not 0.0 < top_p <= 1.0:
        raise fields.error(DraftKey.TOP_P, "must be above 0 and at most 1")
    top_k = fields.integer(DraftKey.TOP_K, MAX_VOCAB_SIZE, default=0)
    min_p = fields.number(DraftKey.MIN_P, 0.0)
    if not 0.0 <= min_p <= 1.0:
        raise fields.error(DraftKey.MIN_P, "must be from 0 to 1")
    penalties, num_prompt = _decode_penalties(fields)
    return Opening(
        tokenizer=tokenizer,
        vocab_size=fields.integer(DraftKey.VOCAB_SIZE, MAX_VOCAB_SIZE, low=1),
        sampling=Sampling(temperature, top_k, top_p, min_p, *penalties),
        seed=fields.integer(DraftKey.SEED, MAX_SEED),
        version=fields.integer(DraftKey.VERSION, MAX_UINT32, default=PROTOCOL_VERSION),
        num_prompt=num_prompt,
        grammar=decode_grammar(fields),
    )


def _decode_penalties(fields: Fields) -> tuple[tuple[float, float, float], int]:
    """The repetition, presence and frequency penalties, and the number of tokens of the prompt."""
    if DraftKey.PENALTIES not in fields:
        return (1.0, 0.0, 0.0), 0
    repetition, presence, frequency, num_prompt = fields.numbers(DraftKey.PENALTIES, 4)
    if not LEAST_REPETITION_PENALTY <= repetition <= MAX_REPETITION_PENALTY:
        bounds = f"from {LEAST_REPETITION_PENALTY:g} to {MAX_REPETITION_PENALTY:g}"
        raise fields.error(DraftKey.PENALTIES, f"must begin with a number {bounds}")
    if not all(abs(penalty) <= MAX_PENALTY for penalty in (presence, frequency)):
        raise fields.error(DraftKey.PENALTIES, f"must have numbers from -{MAX_PENALTY:g} to {MAX_PENALTY:g}")
    if type(num_prompt) is not int or not 0 <= num_prompt <= MAX_UINT32:
        raise fields.error(DraftKey.PENALTIES, "must end with the number of tokens of the prompt")
    return (float(repetition), float(presence), float(frequency)), num_prompt
