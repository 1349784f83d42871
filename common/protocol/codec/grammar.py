"""The grammar of an opening <-> CBOR.

    [kind, source, engine, num_prompt, end_ids], or [digest, num_prompt, end_ids] for a worker that holds it

Law: the source is bounded here; whether it compiles is known only where it is compiled.
"""

from common.protocol.codec.fields import Fields
from common.protocol.codec.keys import DraftKey
from common.protocol.codec.token_ids import LONG_ID_BYTES, decode_ids, encode_ids
from common.protocol.grammar import (
    DIGEST_BYTES,
    MAX_END_IDS,
    MAX_ENGINE_CHARS,
    MAX_GRAMMAR_BYTES,
    AnswerGrammar,
    Grammar,
    GrammarKind,
    KnownGrammar,
)
from common.protocol.limits import MAX_UINT32
from common.protocol.messages import Opening

KINDS = (GrammarKind.JSON_SCHEMA, GrammarKind.REGEX, GrammarKind.LARK)  # by their numbers


def encode_grammar(given: AnswerGrammar | KnownGrammar) -> list[object]:
    """The entry of an opening."""
    if isinstance(given, KnownGrammar):
        return [given.digest, given.num_prompt, encode_ids(given.end_ids, LONG_ID_BYTES)]
    return [
        KINDS.index(given.grammar.kind),
        given.grammar.source,
        given.engine,
        given.num_prompt,
        encode_ids(given.end_ids, LONG_ID_BYTES),
    ]


def decode_grammar(fields: Fields) -> AnswerGrammar | KnownGrammar | None:
    """The grammar of an opening, if it has one; CodecError if it is wrong."""
    if DraftKey.GRAMMAR not in fields:
        return None
    *what, num_prompt, ids = fields.items(DraftKey.GRAMMAR, 3, 5)
    if type(num_prompt) is not int or not 1 <= num_prompt <= MAX_UINT32:
        raise fields.error(DraftKey.GRAMMAR, "must have the number of tokens of the prompt")
    if type(ids) is not bytes or not 1 <= len(ids) <= MAX_END_IDS * LONG_ID_BYTES:
        raise fields.error(DraftKey.GRAMMAR, f"must have 1 to {MAX_END_IDS} end tokens")
    end_ids = tuple(decode_ids(ids, LONG_ID_BYTES).tolist())
    if len(what) == 1:
        (digest,) = what
        if type(digest) is not bytes or len(digest) != DIGEST_BYTES:
            raise fields.error(DraftKey.GRAMMAR, f"must have a digest of {DIGEST_BYTES} bytes")
        return KnownGrammar(digest, num_prompt, end_ids)
    grammar, engine = _decode_source(fields, *what)
    return AnswerGrammar(grammar, engine, num_prompt, end_ids)


def _decode_source(fields: Fields, kind: object, source: object, engine: object) -> tuple[Grammar, str]:
    if type(kind) is not int or not 0 <= kind < len(KINDS):
        raise fields.error(DraftKey.GRAMMAR, "is of a kind that this worker does not know")
    if type(source) is not str or len(source.encode(errors="surrogatepass")) > MAX_GRAMMAR_BYTES:
        raise fields.error(DraftKey.GRAMMAR, f"must have a source of at most {MAX_GRAMMAR_BYTES} bytes")
    if type(engine) is not str or not 1 <= len(engine) <= MAX_ENGINE_CHARS:
        raise fields.error(DraftKey.GRAMMAR, f"must name its engine in 1 to {MAX_ENGINE_CHARS} characters")
    return Grammar(KINDS[kind], source), engine


def check_end_ids(opening: Opening, fields: Fields) -> None:
    """Raise CodecError if an end token of the grammar is outside the vocabulary."""
    if opening.grammar is not None and max(opening.grammar.end_ids) >= opening.vocab_size:
        raise fields.error(DraftKey.GRAMMAR, "has an end token outside the vocabulary")
