"""Endless payloads and topics that a hostile device may send; equal seeds give equal messages.

Law: everything is drawn from the `random.Random` that the caller passes, so a failure can be repeated. Many
payloads pass the codec, because a payload that it refuses reaches nothing else.
"""

import random
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

import cbor2
import numpy as np

from benchmarks.fuzz.grammars import hostile_grammar
from common.protocol.checksum import prefix_check
from common.protocol.codec import MAX_PAYLOAD_BYTES, encode
from common.protocol.grammar import AnswerGrammar, KnownGrammar
from common.protocol.limits import MAX_TRUNCATED_IDS
from common.protocol.messages import Close, Draft, DraftToken, Opening
from common.sampling.distribution import Dense, Distribution, Lattice, Sampling, TopK

CORPUS_SIZE = 400  # valid messages that mutations start from; replaced one at a time
DEVICES = ("attacker", "attacker", "attacker", "other", "other", *(f"d{number}" for number in range(20)))

WRONG_VALUES = (
    *(-1, 2**32, 2**64, 1.5, float("nan"), float("inf"), -float("inf"), None, True, "text", b"", b"x" * 999),
    *([], [[]], [[[[]]]], [b""] * 900, {}, {0: 0}, cbor2.CBORTag(4, [1, 2]), cbor2.undefined),
)
WRONG_KEYS = (*range(25), 2**40, -1, "n", 1.5)

GARBAGE = (
    b"",
    b"\xff" * 1000,
    b"\xa1" * 10_000,
    b"\x81" * 100_000,
    b"\xbf",
    b"\x5b" + b"\xff" * 8,
    b"\x9b" + b"\x00" * 7 + b"\xff",
    b"\xa1\x04\x5a\x7f\xff\xff\xff",
    b"{}",
    b'{"n": 0}',
    bytes(512 * 1024),
    b"\xa1\x04\x5a\x00\x08\x00\x00" + bytes(512 * 1024),
    cbor2.dumps({4: bytes(512 * 1024), 0: 1, 12: bytes(8), 13: 384, 14: 1}),
    cbor2.dumps({key: [b"", b""] * 400 for key in range(20)}),
)


def valid_drafts(opening: Opening, rng: random.Random) -> Iterator[Draft]:
    """Yield drafts that the codec accepts, most of them absurd; some continue the previous one."""
    before: Draft | None = None
    while True:
        if before is not None and before.base == 0 and rng.random() < 0.3:
            before = _following(before, opening, rng)
        else:
            before = _absurd(opening, rng)
        yield before


def _absurd(opening: Opening, rng: random.Random) -> Draft:
    context = tuple(rng.choices(range(opening.vocab_size), k=rng.choice([0, 1, 5, 5, 20, 20, 100, 300, 600])))
    if rng.random() < 0.005:
        context *= 30
    base = rng.choice([0, 0, 0, 1, 30, 511, 2**32 - 1])
    return Draft(
        n=rng.choice([0, 1, 2, 3, 2**31, 2**32 - 1]),
        epoch=rng.choice([0, 0, 1, 2**32 - 1]),
        base=base,
        context=context,
        block=_block(opening.vocab_size, rng),
        bonus=rng.choice([0, 0, 0, 0, 1, 40, 4096]),
        num_context_probs=rng.choice([0, 0, len(context)]),
        check=rng.getrandbits(32) if base else 0,
        opening=None
        if base
        else replace(
            opening,
            sampling=_sampling(rng),
            seed=rng.getrandbits(64),
            num_prompt=rng.choice([0, 1, 2**32 - 1]),
            grammar=_grammar(opening, rng),
        ),
    )


def _following(first: Draft, opening: Opening, rng: random.Random) -> Draft:
    """Return a draft that fits what a session holds after `first`, as far as its sender can know."""
    return Draft(
        n=first.n + rng.choice([0, 1, 1, 7]) if first.n < 2**31 else first.n,
        epoch=first.epoch,
        base=max(1, len(first.context)),
        context=tuple(rng.choices(range(opening.vocab_size), k=rng.choice([0, 1, 4]))),
        block=_block(opening.vocab_size, rng),
        bonus=rng.choice([0, 0, 1, 30]),
        check=prefix_check(first.context),
    )


def _sampling(rng: random.Random) -> Sampling:
    return Sampling(
        rng.choice([0.0, 5e-324, 1e-300, 1e-30, 1.0, 100.0]),
        rng.choice([0, 1, 2**24]),
        rng.choice([5e-324, 0.5, 1.0]),
        rng.choice([0.0, 0.0, 5e-324, 1.0]),
        rng.choice([1.0, 1.0, 0.01, 100.0]),
        rng.choice([0.0, 0.0, -100.0, 100.0]),
        rng.choice([0.0, 0.0, -100.0, 100.0]),
    )


def _grammar(opening: Opening, rng: random.Random) -> AnswerGrammar | KnownGrammar | None:
    if not isinstance(opening.grammar, AnswerGrammar) or rng.random() < 0.9:
        return None
    return hostile_grammar(opening.grammar, rng)


def _block(vocab_size: int, rng: random.Random) -> tuple[DraftToken, ...]:
    length = 64 if rng.random() < 0.01 else rng.choice([0, 1, 1, 3])
    return tuple(_draft_token(vocab_size, rng) for _ in range(length))


def _draft_token(vocab_size: int, rng: random.Random) -> DraftToken:
    token = rng.randrange(vocab_size)
    distribution = _distribution(token, vocab_size, rng)
    if isinstance(distribution, Lattice):
        token = int(distribution.ids[0])
    return DraftToken(token, distribution)


def _distribution(token: int, vocab_size: int, rng: random.Random) -> Distribution | None:
    """Return None or an extreme of a form: one id, all ids, the smallest numbers allowed."""
    match rng.randrange(20):
        case 0:
            return Dense(np.full(vocab_size, 6e-8, np.float16))
        case 1:
            is_logarithmic = rng.random() < 0.5  # the codes mean 0: of the logarithm, of the share
            code = 255 if is_logarithmic else 0
            count = min(vocab_size, MAX_TRUNCATED_IDS)
            return TopK(np.arange(count), np.full(count, code, np.uint8), 1e-45, is_logarithmic)
        case 2:
            return Lattice(np.array([token]), np.array([65536]))
        case number if number < 10:
            return lattice_of(8, min(token, vocab_size - 8))
        case _:
            return None


def lattice_of(size: int, first_id: int, total: int = 256) -> Lattice:
    """Return a lattice over `size` consecutive ids: the first has what the others, with 1 each, leave."""
    counts = np.ones(size, dtype=np.int64)
    counts[0] = total - (size - 1)
    return Lattice(np.arange(first_id, first_id + size, dtype=np.int64), counts)


# -- bytes ---------------------------------------------------------------------------------------------


def mutated(payload: bytes, other: bytes, rng: random.Random) -> bytes:
    """Change a few bits or bytes, then drop, double or append a piece, or splice in another message."""
    data = bytearray(payload)
    for _ in range(rng.randint(1, 4) if data else 0):
        index = rng.randrange(len(data))
        data[index] = rng.choice([data[index] ^ (1 << rng.randrange(8)), rng.randrange(256)])
    cut = rng.randrange(len(data) + 1)
    match rng.randrange(7):
        case 0:
            return bytes(data[:cut])
        case 1:
            return bytes(data[cut:])
        case 2:
            return bytes(data + data[:cut])
        case 3:
            return payload + b"\0"
        case 4:
            return bytes(data[:cut]) + other[rng.randrange(len(other) + 1) :]
        case _:
            return bytes(data)


def wrong_fields(payload: bytes, rng: random.Random) -> bytes:
    """Return a real draft in which some keys hold values that they must not hold."""
    fields = cbor2.loads(payload)
    for _ in range(rng.randint(1, 3)):
        fields[rng.choice(WRONG_KEYS)] = rng.choice(WRONG_VALUES)
    return cbor2.dumps(fields)


def valid_payloads(opening: Opening, rng: random.Random) -> Iterator[bytes]:
    """Yield drafts as bytes, without those that are larger than a message may be."""
    for draft in valid_drafts(opening, rng):
        with suppress(ValueError):
            yield encode(draft)


def payloads(opening: Opening, rng: random.Random) -> Iterator[bytes]:
    """Yield hostile messages, some of them valid."""
    valid = valid_payloads(opening, rng)
    corpus = [next(valid) for _ in range(CORPUS_SIZE)]
    small = [payload for payload in GARBAGE if len(payload) < 2000]
    while True:
        payload = rng.choice(corpus)
        chance = rng.random()
        if chance < 0.05:
            corpus[rng.randrange(CORPUS_SIZE)] = payload = next(valid)
            yield payload
        elif chance < 0.3:
            yield payload
        elif chance < 0.7:
            yield mutated(payload, rng.choice(corpus), rng)[:MAX_PAYLOAD_BYTES]  # brokers cut longer ones off
        elif chance < 0.8:
            yield wrong_fields(payload, rng)
        elif chance < 0.85:
            yield encode(Close())
        elif chance < 0.995:
            yield rng.choice([*small, rng.randbytes(rng.randrange(300))])
        else:
            yield rng.choice(GARBAGE)


# -- topics --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Aim:
    """The worker under attack: only topics below these reach it."""

    worker: str = "victim"
    pool: str = "demo"
    root: str = "hlm/v1"

    def reaches(self, topic: str) -> bool:
        """Whether the broker passes a message on this topic to the worker."""
        levels = topic.removeprefix(self.root + "/").split("/")
        is_open = len(levels) == 4 and levels[:2] == [self.pool, "open"]
        is_draft = len(levels) == 5 and levels[:3] == [self.pool, "draft", self.worker]
        return topic.startswith(self.root + "/") and (is_open or is_draft)


ODD_LEVELS = (
    *(
        "/",
        "a b/c",
        "ä/ö",
        "$SYS/x",
        "../..",
        "x" * 100 + "/y",
        "😀/\u2028",
        "\ufeff/\ufffd",
        "s/" + "y" * 33,
    ),
    *("\u202e/x", "s", "", "s/t/u", "e\u0301/s", "%00/'; --", "s/" + "z" * 60_000),
)
FORBIDDEN_TOPICS = (
    b"",
    b"hlm/v1/demo/open/+/s",
    b"#",
    b"a\xff\xfe/b",
    b"a\x00b",
    b"\xed\xa0\x80/s",
    b"\xc0\xaf",
    b"\x7f/s",
)


def topics(aim: Aim, rng: random.Random, devices: Sequence[str] = DEVICES) -> Iterator[str]:
    """Yield topics that a broker accepts; most reach the worker, and some are malformed."""
    while True:
        session = rng.choice(["s", "s", "s1", "s2", f"s{rng.randrange(5000)}"])
        address = f"{rng.choice(devices)}/{session}"
        if rng.random() < 0.1:
            address = rng.choice(ODD_LEVELS)
        kind = "open" if rng.random() < 0.4 else f"draft/{aim.worker}"
        yield f"{aim.root}/{aim.pool}/{kind}/{address}"


def forbidden(aim: Aim, rng: random.Random) -> tuple[bytes, bytes]:
    """Return a topic and a payload for which a broker closes the connection."""
    if rng.random() < 0.2:
        topic = f"{aim.root}/{aim.pool}/draft/{aim.worker}/attacker/s"
        return topic.encode(), bytes(MAX_PAYLOAD_BYTES + 2048)
    return rng.choice(FORBIDDEN_TOPICS), rng.randbytes(20)
