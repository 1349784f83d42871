"""How many bytes each part of an uplink takes, and how long it takes to encode and decode.

Law: every byte is counted in the real output of the codec and the MQTT packer; nothing is estimated.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import mean, median

from common.link.packets import publish_size
from common.link.properties import packed_size, publish_properties
from common.protocol.codec import decode_to_worker, encode
from common.protocol.codec.draft import encode_draft
from common.protocol.codec.keys import DraftKey
from common.protocol.codec.token_ids import SHORT_ID_BYTES
from common.protocol.messages import Draft, DraftToken
from common.sampling.distribution import LATTICE_TOTALS, Lattice

Block = tuple[DraftToken, ...]

EXPIRY = 30  # seconds, as agents set it
NUM_TIMED = 100  # messages


@dataclass(frozen=True, slots=True)
class Bytes:
    """Means in bytes per verified token; `plain` and `packed` distributions include the draft token."""

    num_ids: float
    plain: float
    packed: float
    bound: float
    cbor_plain: float
    cbor_packed: float
    mqtt_plain: float
    mqtt_packed: float

    @property
    def total_plain(self) -> float:
        """The whole packet with the plain form."""
        return self.plain + self.cbor_plain + self.mqtt_plain

    @property
    def total_packed(self) -> float:
        """The whole packet with the packed form."""
        return self.packed + self.cbor_packed + self.mqtt_packed


@dataclass(frozen=True, slots=True)
class Times:
    """Medians in microseconds per verified token."""

    encode_plain: float
    encode_packed: float
    decode_plain: float
    decode_packed: float


def message(block: Block) -> Draft:
    """Return a draft in the middle of a session: one token of context, numbers of usual size."""
    return Draft(n=100, epoch=5, base=260, context=(700,), block=block, check=0x9E3779B9)


def count(blocks: Sequence[Block], vocab_size: int) -> Bytes:
    """Count the bytes of these messages, part by part."""
    drafts = [message(block) for block in blocks]
    plain = [len(encode(draft, may_pack=False)) for draft in drafts]
    packed = [len(encode(draft)) for draft in drafts]
    raw_plain = [_plain_bytes(block) for block in blocks]
    raw_packed = [_packed_bytes(draft) for draft in drafts]
    per_token = len(blocks) / sum(map(len, blocks))

    def average(values: Sequence[float]) -> float:
        return mean(values) * per_token

    return Bytes(
        num_ids=average([sum(len(lattice.ids) for lattice in _lattices(block)) for block in blocks]),
        plain=average(raw_plain),
        packed=average(raw_packed),
        bound=average([sum(bound(lattice, vocab_size) for lattice in _lattices(block)) for block in blocks]),
        cbor_plain=average(plain) - average(raw_plain),
        cbor_packed=average(packed) - average(raw_packed),
        mqtt_plain=average([_mqtt_bytes(size) for size in plain]),
        mqtt_packed=average([_mqtt_bytes(size) for size in packed]),
    )


def bound(lattice: Lattice, vocab_size: int) -> float:
    """Return log2, in bytes, of the number of lattices of this size: their ids, counts and drawn token."""
    return bound_of(len(lattice.ids), lattice.total, vocab_size)


def bound_of(size: int, total: int, vocab_size: int) -> float:
    """Return log2 of size * C(vocab_size, size) * C(total - 1, size - 1), in bytes."""
    return math.log2(size * math.comb(vocab_size, size) * math.comb(total - 1, size - 1)) / 8


def clock(blocks: Sequence[Block]) -> Times:
    """Time the codec on these messages; nothing else should run on the machine."""
    drafts = [message(block) for block in blocks[:NUM_TIMED]]
    sizes = [len(draft.block) for draft in drafts]
    plain = [encode(draft, may_pack=False) for draft in drafts]
    packed = [encode(draft) for draft in drafts]
    return Times(
        encode_plain=_microseconds(lambda i: encode(drafts[i], may_pack=False), sizes),
        encode_packed=_microseconds(lambda i: encode(drafts[i]), sizes),
        decode_plain=_microseconds(lambda i: decode_to_worker(plain[i]), sizes),
        decode_packed=_microseconds(lambda i: decode_to_worker(packed[i]), sizes),
    )


def _microseconds(call: Callable[[int], object], sizes: Sequence[int]) -> float:
    durations: list[float] = []
    for index, size in enumerate(sizes):
        call(index)
        began = time.perf_counter()
        call(index)
        durations.append((time.perf_counter() - began) / size)
    return median(durations) * 1e6


def _plain_bytes(block: Block) -> int:
    """Return the bytes of the draft tokens' ids, and of the ids and counts of their lattices."""
    return SHORT_ID_BYTES * len(block) + sum(
        len(lattice.ids) * (SHORT_ID_BYTES + LATTICE_TOTALS.index(lattice.total) + 1)
        for lattice in _lattices(block)
    )


def _packed_bytes(draft: Draft) -> int:
    numbers = encode_draft(draft)[DraftKey.PACKED]
    assert isinstance(numbers, list)
    return sum(map(len, numbers))


def _mqtt_bytes(payload_size: int) -> int:
    properties = packed_size(publish_properties(EXPIRY, 1))
    return publish_size("", bytes(payload_size), properties, qos=0) - payload_size


def _lattices(block: Block) -> list[Lattice]:
    return [token.distribution for token in block if isinstance(token.distribution, Lattice)]
