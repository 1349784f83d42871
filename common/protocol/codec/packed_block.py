"""A block whose tokens all have a lattice <-> a few numbers in mixed radix, near the information bound.

Law: packing is exact and never longer than the plain form, and the work that a hostile sender can cause is
bounded by MAX_NUMBER_BYTES, MAX_NUMBER_IDS and MAX_PACKED_IDS. (The work on one number grows with the square
of its length, so a long block is split into several.)
"""

from collections.abc import Sequence
from itertools import accumulate, pairwise

import numpy as np

from common.protocol.codec.errors import CodecError
from common.protocol.codec.mixed_radix import DigitReader, DigitWriter
from common.protocol.limits import (
    MAX_BLOCK_TOKENS,
    MAX_NUMBER_BYTES,
    MAX_NUMBER_IDS,
    MAX_PACKED_IDS,
    MAX_VOCAB_SIZE,
)
from common.protocol.messages import DraftToken
from common.sampling.distribution import LATTICE_TOTALS, Lattice

AIMED_NUMBER_IDS = 128  # a sender starts another number rather than exceed this
_MANTISSA = 16  # the bound on the ids in a number is 1 to 16 times a power of two
_NUM_EXPONENTS = (MAX_VOCAB_SIZE // _MANTISSA).bit_length()


def pack_block(block: Sequence[DraftToken]) -> list[bytes] | None:
    """The numbers of a block of valid lattices; None if it is empty or must be sent in the plain form."""
    lattices = [token.distribution for token in block if isinstance(token.distribution, Lattice)]
    sizes = [len(lattice.ids) for lattice in lattices]
    if len(lattices) < len(block) or not block or max(sizes) > MAX_NUMBER_IDS or sum(sizes) > MAX_PACKED_IDS:
        return None
    numbers = [_pack(tokens) for tokens in _groups(block, lattices)]
    return numbers if max(map(len, numbers)) <= MAX_NUMBER_BYTES else None


def unpack_block(numbers: Sequence[bytes]) -> list[DraftToken]:
    """The block tokens in `numbers`; CodecError if they are not a packed block."""
    tokens: list[DraftToken] = []
    num_ids = 0
    for number in numbers:
        if len(number) > MAX_NUMBER_BYTES:
            raise CodecError(f"a packed number has {len(number)} bytes, more than {MAX_NUMBER_BYTES}")
        for token, lattice in _unpack(number):
            tokens.append(DraftToken(token, lattice))
            num_ids += len(lattice.ids)
        if num_ids > MAX_PACKED_IDS or len(tokens) > MAX_BLOCK_TOKENS:
            raise CodecError(f"a packed block has at most {MAX_BLOCK_TOKENS} tokens and {MAX_PACKED_IDS} ids")
    return tokens


def _groups(block: Sequence[DraftToken], lattices: Sequence[Lattice]) -> list[list[tuple[int, Lattice]]]:
    """The tokens that share a number: neighbours with the same total, and not too many ids."""
    groups: list[list[tuple[int, Lattice]]] = []
    total, num_ids = 0, 0
    for draft_token, lattice in zip(block, lattices, strict=True):
        num_ids += len(lattice.ids)
        if not groups or num_ids > AIMED_NUMBER_IDS or lattice.total != total:
            groups.append([])
            total, num_ids = lattice.total, len(lattice.ids)
        groups[-1].append((draft_token.token, lattice))
    return groups


def _pack(tokens: Sequence[tuple[int, Lattice]]) -> bytes:
    total = tokens[0][1].total
    max_id = max(int(lattice.ids.max()) for _, lattice in tokens)
    if max_id >= MAX_VOCAB_SIZE:
        raise ValueError(f"token id {max_id} is too large: the protocol takes ids below {MAX_VOCAB_SIZE}")
    exponent = max(0, max_id.bit_length() - (_MANTISSA - 1).bit_length())
    mantissa = max_id >> exponent
    writer = DigitWriter()
    writer.put_gamma(len(tokens))
    writer.put(LATTICE_TOTALS.index(total), len(LATTICE_TOTALS))
    writer.put(exponent, _NUM_EXPONENTS)
    writer.put(mantissa, _MANTISSA)
    for token, lattice in tokens:
        _put_lattice(writer, token, lattice, total, bound=(mantissa + 1) << exponent)
    return writer.number()


def _unpack(data: bytes) -> list[tuple[int, Lattice]]:
    reader = DigitReader(data)
    num_tokens = reader.get_gamma(MAX_BLOCK_TOKENS)
    total = LATTICE_TOTALS[reader.get(len(LATTICE_TOTALS))]
    exponent = reader.get(_NUM_EXPONENTS)
    bound = (reader.get(_MANTISSA) + 1) << exponent
    num_left = MAX_NUMBER_IDS
    tokens: list[tuple[int, Lattice]] = []
    for _ in range(num_tokens):
        if num_left == 0:
            raise CodecError(f"a packed number has more than {MAX_NUMBER_IDS} ids")
        token, lattice = _get_lattice(reader, total, bound=bound, max_size=min(num_left, bound, total))
        tokens.append((token, lattice))
        num_left -= len(lattice.ids)
    reader.finish()
    return tokens


def _put_lattice(writer: DigitWriter, token: int, lattice: Lattice, total: int, *, bound: int) -> None:
    """Add the number of ids, the ids ascending, the running sums of their counts, and which one was drawn."""
    pairs = sorted(zip(lattice.ids.tolist(), lattice.counts.tolist(), strict=True))
    ids = [pair[0] for pair in pairs]
    size = len(ids)
    if token not in ids:
        raise ValueError(f"the draft token {token} is not among the ids it was drawn from")
    writer.put_gamma(size)
    writer.put_ascending([value - rank for rank, value in enumerate(ids)], bound - size)
    sums = accumulate(pair[1] for pair in pairs[:-1])
    writer.put_ascending([value - rank for rank, value in enumerate(sums, 1)], total - size)
    writer.put(ids.index(token), size)


def _get_lattice(reader: DigitReader, total: int, *, bound: int, max_size: int) -> tuple[int, Lattice]:
    size = reader.get_gamma(max_size)
    ids = [value + rank for rank, value in enumerate(reader.get_ascending(size, bound - size))]
    inner = [value + rank for rank, value in enumerate(reader.get_ascending(size - 1, total - size), 1)]
    counts = [after - before for before, after in pairwise((0, *inner, total))]
    token = ids[reader.get(size)]
    order = sorted(range(size), key=counts.__getitem__, reverse=True)  # stable: equal counts stay by id
    return token, Lattice(
        np.array([ids[index] for index in order], dtype=np.int64),
        np.array([counts[index] for index in order], dtype=np.int64),
    )
