"""Messages for the codec's tests: strategies for every kind, equality over arrays, one example of each."""

import dataclasses
from dataclasses import replace
from typing import Any

import numpy as np
from hypothesis import strategies as st

from common.protocol.end_ids import with_end_ids
from common.protocol.grammar import AnswerGrammar, Grammar, GrammarKind, KnownGrammar
from common.protocol.messages import (
    Close,
    Correction,
    Draft,
    DraftToken,
    Opening,
    Reason,
    Refusal,
    ToDevice,
    ToWorker,
)
from common.sampling.distribution import (
    LATTICE_TOTALS,
    Dense,
    Distribution,
    Lattice,
    Sampling,
    TopK,
    encode_probs,
    quantise,
)
from common.sampling.shares import encode_shares

VOCAB_SIZE = 300
OPENING = Opening(bytes(range(8)), VOCAB_SIZE, Sampling(0.7, 50, 0.95), seed=2**64 - 1)

numbers = st.integers(0, 2**32 - 1)
names = st.from_regex(r"[A-Za-z0-9_-]{1,32}", fullmatch=True)


def same(left: Any, right: Any) -> bool:
    """Equality of messages, array by array where dataclasses hold arrays."""
    if isinstance(left, np.ndarray):
        return isinstance(right, np.ndarray) and left.dtype == right.dtype and np.array_equal(left, right)
    if type(left) is not type(right):
        return False
    if dataclasses.is_dataclass(left):
        return all(same(getattr(left, f.name), getattr(right, f.name)) for f in dataclasses.fields(left))
    if isinstance(left, tuple):
        return len(left) == len(right) and all(map(same, left, right))
    return left == right


@st.composite
def lattices(draw: st.DrawFn, vocab_size: int) -> Lattice:
    """Any lattice of either total."""
    total = draw(st.sampled_from(LATTICE_TOTALS))
    ids = draw(st.lists(st.integers(0, vocab_size - 1), min_size=1, max_size=40, unique=True))
    cuts = sorted(draw(st.sets(st.integers(1, total - 1), min_size=len(ids) - 1, max_size=len(ids) - 1)))
    counts = np.diff(np.array([0, *cuts, total], dtype=np.int64))
    chosen = np.array(ids, dtype=np.int64)
    order = np.lexsort((chosen, -counts))
    return Lattice(chosen[order], counts[order])


@st.composite
def draft_tokens(draw: st.DrawFn, vocab_size: int) -> DraftToken:
    """A token with any form of distribution that could have produced it, or with none."""
    form = draw(st.sampled_from(["none", "lattice", "dense", "top_k"]))
    if form == "lattice":
        lattice = draw(lattices(vocab_size))
        return DraftToken(draw(st.sampled_from(lattice.ids.tolist())), lattice)
    token = draw(st.integers(0, vocab_size - 1))
    distribution: Distribution | None = None
    if form == "dense" and vocab_size <= 1000:
        weights = np.random.default_rng(draw(numbers)).random(vocab_size).astype(np.float16)
        weights[token] = np.float16(0.5)
        distribution = Dense(weights)
    if form == "top_k":
        ids = draw(st.lists(st.integers(0, vocab_size - 1), min_size=1, max_size=20, unique=True))
        probs = np.random.default_rng(draw(numbers)).dirichlet(np.ones(len(ids) + 1))[:-1]
        draft_prob = draw(st.floats(2.0**-20, 1.0, width=32))
        is_logarithmic = draw(st.booleans())
        codes = encode_probs(probs) if is_logarithmic else encode_shares(probs)
        distribution = TopK(np.array(ids, dtype=np.int64), codes, draft_prob, is_logarithmic)
    return DraftToken(token, distribution)


def _ends(vocab_size: int) -> st.SearchStrategy[tuple[int, ...]]:
    ids = st.integers(0, min(vocab_size, 2**24) - 1)
    return st.lists(ids, min_size=1, max_size=64, unique=True).map(lambda ends: tuple(sorted(ends)))


def answer_grammars(vocab_size: int) -> st.SearchStrategy[AnswerGrammar]:
    """Any grammar with its source."""
    texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=200)
    engines = st.text(st.characters(codec="ascii"), min_size=1, max_size=64)
    grammars = st.builds(Grammar, st.sampled_from(GrammarKind), texts)
    return st.builds(AnswerGrammar, grammars, engines, st.integers(1, 2**32 - 1), _ends(vocab_size))


def known_grammars(vocab_size: int) -> st.SearchStrategy[KnownGrammar]:
    """Any grammar by its digest."""
    digests = st.binary(min_size=16, max_size=16)
    return st.builds(KnownGrammar, digests, st.integers(1, 2**32 - 1), _ends(vocab_size))


@st.composite
def openings(draw: st.DrawFn, vocab_size: int) -> Opening:
    """Any opening for a vocabulary."""
    sampling = Sampling(
        draw(st.floats(0, 100)),
        draw(st.integers(0, 2**24)),
        draw(st.floats(0, 1, exclude_min=True)),
        draw(st.floats(0, 1)),
        draw(st.floats(0.01, 100)),
        draw(st.floats(-100, 100)),
        draw(st.floats(-100, 100)),
    )
    return Opening(
        draw(st.binary(min_size=8, max_size=8)),
        vocab_size,
        sampling,
        draw(st.integers(0, 2**64 - 1)),
        num_prompt=draw(numbers) if sampling.has_penalties else 0,
        grammar=draw(st.none() | answer_grammars(vocab_size) | known_grammars(vocab_size)),
    )


@st.composite
def drafts(draw: st.DrawFn) -> Draft:
    """Any draft."""
    vocab_size = draw(st.sampled_from([2, 300, 50257, 151936, 2**24]))
    context = tuple(draw(st.lists(st.integers(0, vocab_size - 1), max_size=30)))
    base = draw(st.one_of(st.just(0), numbers))
    return Draft(
        n=draw(numbers),
        epoch=draw(numbers),
        base=base,
        context=context,
        block=tuple(draw(st.lists(draft_tokens(vocab_size), max_size=6))),
        bonus=draw(st.integers(0, 4096)),
        num_context_probs=draw(st.integers(0, len(context))),
        check=draw(numbers) if base else 0,
        opening=None if base else draw(openings(vocab_size)),
    )


corrections = st.builds(
    Correction,
    n=numbers,
    num_accepted=st.integers(0, 64),
    token=st.one_of(st.none(), st.integers(0, 2**24 - 1)),
    worker=names,
    index=st.integers(0, 4096),
    context_codes=st.binary(max_size=100),
    compute_ms=st.integers(0, 10**6).map(lambda tenths: tenths / 10),
    limit=numbers,
)
refusals = st.builds(
    Refusal,
    n=st.one_of(st.none(), numbers),
    reason=st.sampled_from(Reason),
    worker=names,
    detail=st.text(max_size=200),
    have=numbers,
    retry_after=st.integers(0, 3_600_000).map(lambda ms: ms / 1000),
)


def lattice_of(size: int, total: int = 256, first_id: int = 100) -> Lattice:
    """A lattice over `size` consecutive ids, the first of them with all that the others leave."""
    counts = np.ones(size, dtype=np.int64)
    counts[0] = total - (size - 1)
    return Lattice(np.arange(first_id, first_id + size, dtype=np.int64), counts)


def typical_lattice(size: int, total: int = 256, vocab_size: int = 32000) -> Lattice:
    """A lattice over `size` ids from anywhere in the vocabulary, with probabilities as 1, 1/2, 1/3, ..."""
    probs = np.zeros(vocab_size)
    probs[np.random.default_rng(size).permutation(vocab_size)[:size]] = 1 / np.arange(1, size + 1)
    return quantise(probs, size, total)


def drawn(lattice: Lattice) -> DraftToken:
    """The most probable token of a lattice."""
    return DraftToken(int(lattice.ids[0]), lattice)


def examples() -> dict[str, ToWorker | ToDevice]:
    """One typical message of every kind, by the name that docs/protocol.md gives it."""
    sampling = Sampling(0.8, 0, 0.95)
    opening = Opening(bytes(range(8)), 32000, sampling, seed=1234567890123)
    long_opening = Opening(bytes(range(8)), 151936, sampling, seed=1234567890123)
    token = drawn(typical_lattice(16))
    wide = drawn(typical_lattice(16, vocab_size=151936))
    dense = Dense(np.full(32000, 2.0**-15, dtype=np.float16))
    top_k = TopK(np.arange(16, dtype=np.int64), np.full(16, 60, dtype=np.uint8), 0.03125)
    names = {"enum": ["light", "fan", "blinds"]}, {"enum": ["kitchen", "bedroom"]}, {"enum": ["on", "off"]}
    action = dict(zip(("device", "room", "action"), names, strict=True))
    schema = {"type": "object", "properties": action, "required": [*action], "additionalProperties": False}
    grammar = AnswerGrammar(Grammar.json_schema(schema), "llguidance 1.9.1 6a2cb46d", 200, (2,))
    check = 0x9E3779B9
    return {
        "opening, 200 tokens of context": Draft(
            0, 0, 0, tuple(range(200)), (token,), bonus=1, opening=opening
        ),
        "one token, nothing skipped": Draft(31, 2, 260, (700,), (token,), 1, 0, check),
        "one token, four skipped before it": Draft(
            31, 2, 260, (700, 701, 702, 703, 704), (token,), 1, 0, check
        ),
        "two tokens, one without a distribution": Draft(
            31, 2, 260, (700,), (token, DraftToken(5)), 1, 0, check
        ),
        "block of four": Draft(31, 2, 260, (700,), (token,) * 4, 1, 0, check),
        "block of sixteen": Draft(31, 2, 260, (700,), (token,) * 16, 1, 0, check),
        "block of four, greedy or coupled": Draft(31, 2, 260, (700,), (DraftToken(100),) * 4, 1, 0, check),
        "one token, large vocabulary": Draft(31, 2, 260, (700,), (wide,), 1, 0, check),
        "one token, total of 65536": Draft(
            31, 2, 260, (700,), (drawn(typical_lattice(16, total=65536)),), 1, 0, check
        ),
        "CU-HLM, top 16": Draft(31, 2, 260, (700,), (DraftToken(5, top_k),), 0, 0, check),
        "HLM, 32,000 float16": Draft(31, 2, 260, (700,), (DraftToken(5, dense),), 0, 0, check),
        "100 target tokens, streamed": Draft(31, 2, 260, (700,), (), 100, 0, check),
        "opening of a large vocabulary": Draft(0, 0, 0, (99990,), (wide,), 1, opening=long_opening),
        "opening with a JSON schema of 211 bytes": Draft(
            0, 0, 0, tuple(range(200)), (token,), bonus=1, opening=replace(opening, grammar=grammar)
        ),
        "opening with the same schema, known": Draft(
            0, 0, 0, tuple(range(200)), (token,), bonus=1, opening=replace(opening, grammar=grammar.briefly)
        ),
        "close": Close(),
        "correction": Correction(31, 1, 742, "worker-1", compute_ms=23.4),
        "correction with 16 context probabilities": Correction(
            31, 1, 742, "worker-1", context_codes=bytes(16), compute_ms=23.4
        ),
        "correction that lists two end tokens": Correction(
            31, 1, 742, "worker-1", context_codes=with_end_ids(b"", [151_643, 151_645]), compute_ms=23.4
        ),
        "refusal: need_context": Refusal(31, Reason.NEED_CONTEXT, "worker-1", have=128),
        "refusal: busy": Refusal(31, Reason.BUSY, "worker-1", retry_after=0.25),
        "refusal: bad_request": Refusal(
            None, Reason.BAD_REQUEST, "worker-1", "the message ends before it is complete"
        ),
    }
